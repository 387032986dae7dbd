//! The words of the TPM configuration page. Knows HTML and that a key is never part of it.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

use super::desk::Desk;
use super::origin::Refusal;
use super::secret_form::SecretForm;
use crate::identity::Identity;
use crate::identity::provision::{Shown, checked_identity};
use crate::secret_text::could_be_a_key;

const PAGE: &str = include_str!("page/configuration.html");
const FORM: &str = include_str!("page/configuration-form.html");

/// What to say above the form.
pub enum Notice {
    None,
    Saved,
    Problem(String),
}

/// The form, under what the TPM holds.
pub fn open(
    desk: &Desk,
    status: StatusCode,
    notice: &Notice,
    shown: &Result<Shown, String>,
    filled: &SecretForm,
) -> Response {
    let (present, replace) = match shown {
        Ok(shown) => (holds(shown), shown.identity.is_some() || shown.foreign.is_some()),
        Err(problem) => (alert(problem), false),
    };
    render(status, notice, &format!("{present}{}", form(desk, replace, filled)))
}

/// The form alone: the TPM was not asked.
pub fn without_tpm(desk: &Desk, status: StatusCode, notice: &Notice, filled: &SecretForm) -> Response {
    render(status, notice, &form(desk, filled.replace, filled))
}

/// Why there is no form for this visitor.
pub fn closed(refusal: &Refusal) -> Response {
    let text = format!("The TPM cannot be configured from here: {refusal}.");
    render(StatusCode::FORBIDDEN, &Notice::Problem(text), "")
}

/// There is no TPM to be configured: what to do instead of the form.
pub fn key_file(desk: &Desk, status: StatusCode) -> Response {
    let text = format!(
        "This station keeps its key in a file (identity.source = \"key-file\"), not in a TPM: put the device's \
         connection string into {}.",
        desk.identity.key_file.display()
    );
    render(status, &Notice::Problem(text), "")
}

/// The TPM is still asked for somebody else.
pub fn busy() -> Response {
    let text = "The TPM has not answered another visitor yet: try again in a while.".into();
    let page = render(StatusCode::SERVICE_UNAVAILABLE, &Notice::Problem(text), "");
    ([(header::RETRY_AFTER, "15")], page).into_response()
}

fn holds(shown: &Shown) -> String {
    let Some(Identity { host, device_id }) = &shown.identity else {
        // The reason names the option of a command; here it is a box.
        let foreign = shown.foreign.map(|foreign| format!("The TPM holds {foreign}"));
        let reason =
            foreign.as_deref().or(shown.reason.as_deref()).unwrap_or("The TPM holds no identity yet");
        return format!("<p>{}.</p>", escape(reason.trim_end_matches('.')));
    };
    let key = shown.key.as_ref().map_or("missing", |key| key.can_leave.as_str());
    let facts = [
        ("Host name", host.as_str()),
        ("Device id", device_id.as_str()),
        ("Key can leave the TPM", key),
        ("TPM", &format!("{}, firmware {}", shown.vendor, shown.firmware)),
    ];
    let rows: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)))
        .collect();
    format!("<dl class=\"facts\">{rows}</dl>")
}

fn form(desk: &Desk, replace: bool, filled: &SecretForm) -> String {
    let replace = if replace {
        "<label class=\"tick\"><input type=\"checkbox\" name=\"replace\"> Replace the identity that is there</label>"
    } else {
        ""
    };
    let (host, device_id) = to_repeat(filled);
    FORM.replace("{{replace}}", replace)
        .replace("{{path}}", &escape(&desk.code.path().display().to_string()))
        .replace("{{host}}", &escape(host))
        .replace("{{device}}", &escape(device_id))
}

/// Host and device id go back into the form only if they can be such: what else was typed may be a key.
fn to_repeat(filled: &SecretForm) -> (&str, &str) {
    let (host, device_id) = (filled.host.as_str(), filled.device_id.as_str());
    let harmless = !could_be_a_key(host) && !could_be_a_key(device_id);
    if harmless && checked_identity(host, device_id).is_ok() { (host, device_id) } else { ("", "") }
}

fn render(status: StatusCode, notice: &Notice, content: &str) -> Response {
    let notice = match notice {
        Notice::None => String::new(),
        Notice::Saved => {
            "<p class=\"notice\" role=\"status\">Saved. The key can no longer be seen.</p>".into()
        }
        Notice::Problem(text) => alert(text),
    };
    let html = PAGE.replace("{{notice}}", &notice).replace("{{content}}", content);
    (status, Html(html)).into_response()
}

fn alert(text: &str) -> String {
    format!("<p class=\"problem\" role=\"alert\">{}</p>", escape(text))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A `{{marker}}` in a value must not be filled in.
            '{' => escaped.push_str("&#123;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_cannot_become_html_nor_a_marker() {
        assert_eq!(escape("<b a='\"'>&{{host}}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;&#123;&#123;host}}");
    }

    #[test]
    fn a_key_in_the_wrong_field_is_not_repeated() {
        let key = "Zmlyc3Qga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhISE=";
        let whole = format!("HostName=h;DeviceId=d;SharedAccessKey={key}");
        let filled = |host: &str, device_id: &str| SecretForm {
            host: host.to_owned().into(),
            device_id: device_id.to_owned().into(),
            ..SecretForm::default()
        };
        for (host, device_id) in
            [(&*whole, "roof"), ("h.example", &*whole), ("h.example", key), (key, "roof")]
        {
            assert_eq!(to_repeat(&filled(host, device_id)), ("", ""), "{host} {device_id}");
        }
        let right = filled("h.example", "roof");
        assert_eq!(to_repeat(&right), ("h.example", "roof"));
    }
}
