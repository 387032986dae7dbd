//! The binary: what it prints, and what outlives its death.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Program {
    child: Child,
    ports: Value,
}

impl Program {
    fn start(dir: &Path, port: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hub-emulator"))
            .args(["--control", "0", "--port", &port.to_string(), "--record"])
            .arg(dir.join("record.jsonl"))
            .arg("--dir")
            .arg(dir)
            .arg("--device")
            .arg(format!("roof={}", dir.join("key").display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, ports: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn killed_and_started_again_it_has_the_same_authority_port_and_record() {
    let dir = std::env::temp_dir().join(format!("hub-program-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("key"), "a2V5\n").unwrap();
    let first = Program::start(&dir, 0);
    let port = first.ports["port"].as_u64().unwrap();
    let authority = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    drop(first);
    let mut record = std::fs::File::create(dir.join("record.jsonl")).unwrap();
    // Two whole lines, and one that the death of the program tore.
    let line = r#"{"index":0,"device":"roof","transfer":3,"messageId":"a","body":"{}"}"#;
    write!(record, "{line}\n{line}\n{}", &line[..40]).unwrap();
    let again = Program::start(&dir, port);
    assert_eq!(again.ports["port"].as_u64(), Some(port));
    let kept = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    assert_eq!(public_key(&kept), public_key(&authority));
    assert_eq!(std::fs::read_to_string(dir.join("record.jsonl")).unwrap(), format!("{line}\n{line}\n"));
    drop(again);
    std::fs::remove_dir_all(dir).unwrap();
}

/// The signature of a certificate differs from one signing to the next; what is before it must not.
fn public_key(pem: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = der.windows(2).position(|pair| pair == [0x03, 0x42]).unwrap();
    der[key..key + 68].to_vec()
}
