//! The TPM form with a real TPM behind it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::http::{get, post_form, post_form_and_leave, send};
use crate::rig;
use crate::support::memory::in_memory;
use crate::support::station::Station;
use crate::support::swtpm::{MuteTpm, Swtpm};

/// The station, with a TPM and no hub.
async fn station(dir: &Path, tcti: &str) -> Station {
    let config = rig::config(dir, 60.0) + &format!("[identity]\ntcti = \"{tcti}\"\n");
    let station = Station::start(dir, &config);
    station.until("the page", Duration::from_secs(20), |_| true).await;
    station
}

fn code(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("setup-code")).unwrap().trim().to_owned()
}

fn encoded(key: &str) -> String {
    key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_puts_an_identity_into_the_tpm_and_the_key_is_seen_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Swtpm::new();
    let station = station(dir.path(), &tpm.tcti()).await;
    let page = station.page;
    let origin = format!("http://{page}");
    let key = STANDARD.encode([0xA5_u8; 32]);
    let form = |code: &str, device: &str, key: &str, more: &str| {
        format!("code={code}&host=hub.example&device={device}&key={}{more}", encoded(key))
    };

    let empty = get(page, "/configuration").await;
    assert_eq!(empty.status, 200);
    assert!(empty.text().contains("name=\"key\" type=\"password\""), "{}", empty.text());

    // Another site, a silent browser and a wrong code get nowhere near the TPM.
    let right = code(dir.path());
    for foreign in [Some("http://evil.example"), Some("null"), None] {
        let refused = post_form(page, foreign, &form(&right, "roof", &key, "")).await;
        assert_eq!(refused.status, 403, "{foreign:?}");
        assert!(refused.text().contains("did not come from a page of this station"));
    }
    let wrong = post_form(page, Some(&origin), &form("2222-2222", "roof", &key, "")).await;
    assert_eq!((wrong.status, wrong.header("retry-after")), (403, Some("2")), "{}", wrong.text());
    let soon = post_form(page, Some(&origin), &form(&right, "roof", &key, "")).await;
    assert_eq!(soon.status, 429, "{}", soon.text());
    assert!(soon.text().contains("wait") || soon.text().contains("Wait"), "{}", soon.text());
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    // A key that is none: the message says so without repeating it.
    let broken = post_form(page, Some(&origin), &form(&right, "roof", "bm90IGEga2V5!", "")).await;
    assert_eq!(broken.status, 422, "{}", broken.text());
    assert!(
        broken.text().contains("expected base64") && !broken.text().contains("bm90"),
        "{}",
        broken.text()
    );

    // A key in the wrong field: it does not come back, neither in the form nor in the message.
    let pasted = STANDARD.encode([0x5A_u8; 32]);
    let whole =
        encoded(&format!("HostName=h.example;DeviceId=roof;SharedAccessKey={pasted}")).replace(';', "%3B");
    for (host, device) in [(&*whole, "roof"), ("hub.example", &*whole), (&*encoded(&pasted), "roof")] {
        let misplaced = format!("code={right}&host={host}&device={device}&key={}", encoded(&pasted));
        let refused = post_form(page, Some(&origin), &misplaced).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(!refused.text().contains(&pasted[..8]), "{}", refused.text());
    }

    let saved = post_form(page, Some(&origin), &form(&right, "roof", &key, "")).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, Some("/configuration?saved")),
        "{}",
        saved.text()
    );
    assert!(!get(page, "/configuration").await.text().contains("Saved."));
    let shown = get(page, "/configuration?saved").await.text();
    assert!(shown.contains("role=\"status\">Saved."), "{shown}");
    assert!(shown.contains("<dd>hub.example</dd>") && shown.contains("<dd>roof</dd>"), "{shown}");
    assert!(!shown.contains(&key));

    // The code has been used; the next one saves nothing over another identity without the tick.
    let next = code(dir.path());
    assert_ne!(next, right);
    let kept = post_form(page, Some(&origin), &form(&next, "cellar", &key, "")).await;
    assert_eq!(kept.status, 409, "{}", kept.text());
    assert!(kept.text().contains("The TPM holds roof at hub.example"), "{}", kept.text());
    let replaced = post_form(page, Some(&origin), &form(&next, "cellar", &key, "&replace=on")).await;
    assert_eq!(replaced.status, 303, "{}", replaced.text());
    station
        .until("the running station takes the new identity", Duration::from_secs(30), |status| {
            status["identity"]["deviceId"] == "cellar"
        })
        .await;

    let log = station.log_text();
    assert!(log.contains("wrong setup code") && log.contains("tries=1"), "{log}");
    for secret in [&key, &right, &next] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(in_memory(station.pid(), b"cellar") > 0, "the memory can be searched");
    for secret in [&key, &pasted] {
        assert_eq!(in_memory(station.pid(), secret.as_bytes()), 0, "a key is still in the station's memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_leaves_at_once_has_used_the_code_and_the_station_takes_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Swtpm::new();
    let station = station(dir.path(), &tpm.tcti()).await;
    let page = station.page;
    let origin = format!("http://{page}");
    let used = code(dir.path());
    let key = encoded(&STANDARD.encode([0xA5_u8; 32]));
    let form = format!("code={used}&host=hub.example&device=roof&key={key}");
    // A browser that is gone before its form has been read has sent nothing: then another one comes.
    for turn in 0..300 {
        if code(dir.path()) != used {
            break;
        }
        if turn % 20 == 0 {
            post_form_and_leave(page, Some(&origin), &form).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(code(dir.path()), used, "the code is still in force");
    let refused = post_form(page, Some(&origin), &form).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    station
        .until("the running station takes the identity", Duration::from_secs(10), |status| {
            status["identity"]["deviceId"] == "roof"
        })
        .await;
    let log = station.log_text();
    assert!(log.contains("the form put an identity into the TPM"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_forms_that_are_refused_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let station = rig::alone(dir.path(), 60.0).await;
    for _ in 0..50 {
        let refused = post_form(station.page, Some("http://evil.example"), "host=hub.example").await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    // Another reason is told, too.
    let elsewhere = "POST /configuration HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(send(station.page, elsewhere).await.status, 403);
    let log = station.log_text();
    let is_told = |line: &&str| line.contains("WARN") && line.contains("form was refused");
    let told: Vec<_> = log.lines().filter(is_told).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("did not come from a page of this station"), "{told:?}");
    assert!(told[1].contains("the address has to begin with"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tpm_the_form_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let station = rig::alone(dir.path(), 60.0).await;
    let page = get(station.page, "/configuration").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("role=\"alert\"") && page.text().contains("TPM"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_of_a_tpm_that_never_answers_take_no_thread_from_sensor_and_store() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = MuteTpm::new();
    let station = station(dir.path(), &tpm.tcti()).await;
    let page = station.page;
    for _ in 0..20 {
        // A browser that is reloaded: it leaves before the answer.
        let visit = tokio::time::timeout(Duration::from_millis(50), get(page, "/configuration"));
        assert!(visit.await.is_err(), "the TPM answered");
    }
    let count = |status: &Value, pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap();
    let (taken, stored) = ("/sensor/taken", "/store/lastSequence");
    let before = station.until("its status", Duration::from_secs(20), |_| true).await;
    station
        .until("it goes on sampling and storing", Duration::from_secs(20), |status| {
            [taken, stored].iter().all(|pointer| count(status, pointer) >= count(&before, pointer) + 3)
        })
        .await;
    let busy = get(page, "/configuration").await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("15")), "{}", busy.text());
    assert!(busy.text().contains("The TPM has not answered another visitor yet"), "{}", busy.text());
    let form = format!("code={}&host=hub.example&device=roof&key=a2V5", code(dir.path()));
    let refused = post_form(page, Some(&format!("http://{page}")), &form).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_with_a_key_file_has_no_form_and_says_where_its_key_is() {
    let dir = tempfile::tempdir().unwrap();
    let sections = "[identity]\nsource = \"key-file\"\nkey_file = \"/etc/the-key\"\n";
    let station = Station::start(dir.path(), &(rig::config(dir.path(), 60.0) + sections));
    station.until("the page", Duration::from_secs(20), |_| true).await;
    let page = station.page;
    let shown = get(page, "/configuration").await;
    let form = format!("code={}&host=hub.example&device=roof&key=a2V5", code(dir.path()));
    let saved = post_form(page, Some(&format!("http://{page}")), &form).await;
    assert_eq!((shown.status, saved.status), (200, 409), "{}", saved.text());
    for answer in [shown, saved] {
        let text = answer.text();
        assert!(text.contains("keeps its key in a file") && text.contains("/etc/the-key"), "{text}");
        assert!(!text.contains("<form"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_left_without_its_key_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Swtpm::new();
    let name = "old-hub.example/old-roof";
    std::fs::write(dir.path().join("name"), name).unwrap();
    let (index, size) = ("0x1400100", name.len().to_string());
    let define = [index, "-C", "o", "-s", &size, "-a", "authread|authwrite|no_da"];
    tpm.tool_ok(dir.path(), "tpm2_nvdefine", &define);
    tpm.tool_ok(dir.path(), "tpm2_nvwrite", &[index, "-C", index, "-i", "name"]);
    let station = station(dir.path(), &tpm.tcti()).await;
    let page = station.page;
    let origin = format!("http://{page}");
    let shown = get(page, "/configuration").await.text();
    assert!(shown.contains("name=\"replace\""), "{shown}");
    let key = encoded(&STANDARD.encode([0xA5_u8; 32]));
    let form = format!("code={}&host=hub.example&device=roof&key={key}", code(dir.path()));
    let kept = post_form(page, Some(&origin), &form).await;
    assert_eq!(kept.status, 409, "{}", kept.text());
    assert!(kept.text().contains("The TPM holds a name without a device key."), "{}", kept.text());
    assert!(kept.text().contains("name=\"replace\"") && !kept.text().contains("--force"), "{}", kept.text());
    let replaced = post_form(page, Some(&origin), &format!("{form}&replace=on")).await;
    assert_eq!(replaced.status, 303, "{}", replaced.text());
    let shown = get(page, "/configuration?saved").await.text();
    assert!(shown.contains("<dd>hub.example</dd>") && shown.contains("<dd>roof</dd>"), "{shown}");
}
