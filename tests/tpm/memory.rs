//! What provisioning leaves of a key in the memory of the process: nothing that a core dump or a swapped page
//! could show. Looked for with /proc/self/mem in a process of its own, which gets the key as the program does.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::Stdio;

use weather_station::identity::Signer;
use weather_station::identity::provision::{self, parse_connection_string};
use weather_station::identity::tpm::TpmSigner;

use crate::apart;
use crate::support::memory::in_memory;
use crate::support::station::binary;
use crate::swtpm::{MuteTpm, Swtpm};

const CHUNK: usize = 64 * 1024;
const TCTI: &str = "WEATHER_STATION_TEST_PROVISION_AND_LOOK";

/// The process that is looked into. Without the variable it is an ordinary test that has nothing to do.
#[test]
fn child_that_provisions_and_looks() {
    let Ok(tcti) = std::env::var(TCTI) else { return };
    // The key comes as its complement, so that only what the station's code makes of it can be found.
    let mut mask = [0_u8; 44];
    std::io::stdin().read_exact(&mut mask).unwrap();
    {
        let mut text = zeroize::Zeroizing::new(Vec::with_capacity(100));
        text.extend_from_slice(b"HostName=h;DeviceId=d;SharedAccessKey=");
        text.extend(mask.iter().map(|byte| !byte));
        let in_text = found(&mask);
        assert!(in_text > 0, "the look finds what is there");
        let request = parse_connection_string(std::str::from_utf8(&text[..]).unwrap()).unwrap();
        assert!(found(&mask) > in_text, "the look finds the key itself");
        provision::provision(&tcti, 0, &request, false).unwrap();
    }
    TpmSigner::new(&tcti, 0).sign(b"x").unwrap();
    let left = found(&mask);
    assert_eq!(left, 0, "copies of the key were left in memory");
}

/// In how many places sixteen bytes of the key stand, in base64 or as they are.
fn found(mask: &[u8; 44]) -> usize {
    use base64::Engine as _;
    let text: Vec<u8> = mask.iter().map(|byte| !byte).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(&text).unwrap();
    // What is looked for must not be found in the looking: it is kept as its complement, too.
    let wanted: Vec<Vec<u8>> =
        [&text[8..24], &bytes[8..24]].map(|part| part.iter().map(|b| !b).collect()).to_vec();
    drop(zeroize::Zeroizing::new(text));
    drop(zeroize::Zeroizing::new(bytes));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains("rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // In one buffer that is wiped: the look itself leaves no copies.
        let mut content = zeroize::Zeroizing::new(vec![0; CHUNK + 16]);
        for at in (from..to).step_by(CHUNK) {
            let length = usize::try_from(to - at).unwrap().min(CHUNK + 16);
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut content[..length]).is_err()
            {
                continue;
            }
            for part in &wanted {
                let is_part = |window: &[u8]| window.iter().zip(part).all(|(a, b)| *a == !*b);
                let hits = content[..length].windows(16).filter(|window| is_part(window)).count();
                count += hits;
            }
        }
    }
    count
}

#[test]
fn provisioning_leaves_no_copy_of_the_key_in_memory() {
    let tpm = Swtpm::new();
    let mut child = apart::command(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child_that_provisions_and_looks", "--nocapture"])
        .env(TCTI, tpm.tcti())
        .env("TSS2_LOG", "all+NONE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mask: Vec<u8> = b"a2tra2tra2tra2trUniqueKeyOfThisTest5a2tra2s=".iter().map(|byte| !byte).collect();
    child.stdin.take().unwrap().write_all(&mask).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

/// The program itself, stopped where it waits for its TPM: by then the text has been read and taken apart, and only
/// the key as it goes into the TPM is still needed.
#[test]
fn a_connection_string_from_standard_input_is_not_left_in_a_buffer() {
    let mut tpm = MuteTpm::new();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("station.toml");
    std::fs::write(&config, format!("[identity]\ntcti = \"{}\"\n", tpm.tcti())).unwrap();
    let mut child = binary()
        .arg("--config")
        .arg(&config)
        .args(["provision", "--connection-string-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let key = "a2tra2tra2tra2trUniqueKeyOfThisTest5a2tra2s=";
    let text = format!("HostName=h.example;DeviceId=d;SharedAccessKey={key}\n");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    crate::swtpm::wait_until("the program calls its TPM", || tpm.is_called());
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let (as_text, as_bytes) = (in_memory(child.id(), key.as_bytes()), in_memory(child.id(), &bytes));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((as_text, as_bytes), (0, 1), "copies of the text, and of the key on its way");
}
