//! The files of the page, built into the binary. Knows their names and types, nothing of the weather.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::routes::Shared;

/// One file.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $kind:literal, $file:literal) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("page/", $file)) }
    };
}

/// Everything that is served as it is; 300 KB in all at most.
const ASSETS: &[Asset] = &[
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/app.js", "text/javascript; charset=utf-8", "app.js"),
    asset!("/charts.js", "text/javascript; charset=utf-8", "charts.js"),
    asset!("/stream.js", "text/javascript; charset=utf-8", "stream.js"),
    asset!("/theme.js", "text/javascript; charset=utf-8", "theme.js"),
    asset!("/too-old.js", "text/javascript; charset=utf-8", "too-old.js"),
    asset!("/today.js", "text/javascript; charset=utf-8", "today.js"),
    asset!("/units.js", "text/javascript; charset=utf-8", "units.js"),
    asset!("/uplot.js", "text/javascript; charset=utf-8", "uplot.js"),
    asset!("/words.js", "text/javascript; charset=utf-8", "words.js"),
    asset!("/instrument-sans.woff2", "font/woff2", "instrument-sans.woff2"),
    asset!("/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/licences.txt", "text/plain; charset=utf-8", "licences.txt"),
];

/// A route for each file.
pub fn routes() -> Router<Arc<Shared>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = format!("\"{:08x}\"", crc32fast::hash(asset.bytes));
        router.route(asset.path, get(async move |headers: HeaderMap| asset.answer(&tag, &headers)))
    })
}

impl Asset {
    /// The browser keeps the file and asks each time whether it is still the one: `304` costs 200 bytes, and
    /// an upgraded station never shows half of the old page.
    fn answer(&self, tag: &str, request: &HeaderMap) -> Response {
        let common = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache")];
        if request.get(header::IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == tag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(header::CONTENT_TYPE, self.kind)], self.bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_at_most_300_kb() {
        let forms = include_bytes!("page/configuration.html").len()
            + include_bytes!("page/configuration-form.html").len();
        let total = forms + ASSETS.iter().map(|asset| asset.bytes.len()).sum::<usize>();
        assert!(total <= 300_000, "{total} bytes");
    }

    #[test]
    fn no_page_names_another_site_and_none_holds_inline_script_or_style() {
        for asset in ASSETS.iter().filter(|asset| asset.path != "/licences.txt" && asset.kind != "font/woff2")
        {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            // An SVG has to name its namespace; nothing is fetched from it.
            let text = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            assert!(!text.contains("http:") && !text.contains("https:"), "{}", asset.path);
            assert!(!text.contains("=\"//") && !text.contains("url(//"), "{}", asset.path);
            if asset.kind.starts_with("text/html") {
                for inline in ["<style", "style=", "<script>", " onclick", " onload", "javascript:"] {
                    assert!(!text.contains(inline), "{} holds {inline}", asset.path);
                }
            }
        }
    }
}
