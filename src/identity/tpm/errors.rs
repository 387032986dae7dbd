//! Gives every TPM failure a sentence and a remedy. Knows response codes (TCG TPM 2.0 Part 2, 6.6) and
//! errno; takes no action.

use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::time::Duration;

use tss_esapi::Error;
use tss_esapi::constants::response_code::Tss2ResponseCode;

use crate::identity::IdentityError;

/// The TPM could not be opened. libtss2 says the same for every reason (0xa000a), so it is tried again
/// without it, to learn which.
pub fn unreachable(tcti: &str, error: Error) -> IdentityError {
    let doing = format!("opening the TPM {tcti}");
    if let Some(path) = tcti.strip_prefix("device:") {
        let Err(errno) = std::fs::OpenOptions::new().read(true).write(true).open(path) else {
            return IdentityError::because(
                doing,
                "it can be opened, but it is not a TPM that answers; expected a TPM 2.0's device node such as \
                 /dev/tpmrm0",
                error,
            );
        };
        let remedy = device_remedy(path, errno.kind());
        return IdentityError::because(doing, remedy, errno);
    }
    if let Some(address) = tcti.strip_prefix("swtpm:") {
        let part = |key| address.split(',').find_map(|part| part.strip_prefix(key));
        let host = part("host=").unwrap_or("localhost");
        let port = part("port=").and_then(|port| port.parse::<u16>().ok()).unwrap_or(2321);
        let remedy = format!(
            "no swtpm answers at {host} port {port} (and {} for control); start it, or set identity.tcti to \
             where it listens",
            u32::from(port) + 1
        );
        let address = (host, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let tried =
            address.map(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)));
        return match tried {
            Some(Err(errno)) => IdentityError::because(doing, remedy, errno),
            _ => IdentityError::because(doing, remedy, error),
        };
    }
    IdentityError::because(doing, "it does not open; expected \"device:/dev/tpmrm0\"", error)
}

/// Why a device node does not open (tpm_tis gives EBUSY at a second open of /dev/tpm0).
fn device_remedy(path: &str, errno: ErrorKind) -> String {
    match errno {
        ErrorKind::NotFound => format!(
            "there is no {path}; is the TPM module seated and `dtoverlay=tpm-slb9670` in \
             /boot/firmware/config.txt (then reboot)? Without a TPM set identity.source = \"key-file\""
        ),
        ErrorKind::PermissionDenied => format!(
            "this user may not use {path}; it must be in the group tss: `sudo usermod -aG tss $USER` and log in \
             again (the service's unit has it already), or run with sudo"
        ),
        ErrorKind::ResourceBusy => format!(
            "another program holds {path}; use the kernel's resource manager instead: identity.tcti = \
             \"device:/dev/tpmrm0\", which many can share"
        ),
        _ => format!("{path} does not open; expected a TPM 2.0's device node such as /dev/tpmrm0"),
    }
}

/// A TPM command failed.
pub fn explain(doing: &str, tcti: &str, error: Error) -> IdentityError {
    let Some(code) = response_code(error) else {
        return IdentityError::because(doing, "libtss2 refused to send the command; this is a bug", error);
    };
    let (doing, remedy) = (doing.into(), remedy(code, tcti));
    IdentityError::Failed { doing, remedy, source: Some(format!("response code {code:#x}").into()) }
}

/// What to do about a response code.
fn remedy(code: u32, tcti: &str) -> String {
    // The layer above the TPM's own codes: TCTI (0xA), resource managers (0x9, 0xB), ESYS out of step after one
    // of them (0x70007).
    if matches!(code, 0x9_0000..=0xB_FFFF | 0x7_0007) {
        return format!(
            "the TPM at {tcti} went away in the middle; check its seat and supply. The station keeps trying"
        );
    }
    let remedy = match code {
        0x100 => {
            "the TPM is not started; a kernel or firmware does that at power-on: reboot, or run `tpm2_startup -c`"
        }
        0x101 => {
            "the TPM reports a failure of its own (failure mode); take its power away and give it back, and if \
             that does not help, replace the module"
        }
        0x120 => DISABLED,
        0x125 => {
            "it was made for another TPM, or for another endorsement key than this one's; enrol what \
             `weather-station provision --show-enrollment` prints"
        }
        0x12F | 0x148 | 0x149 => {
            "this index of the TPM was defined by somebody else, and may not be used with an empty password; \
             choose another identity.slot, or replace it with `weather-station provision --force`"
        }
        0x14B => {
            "the TPM has no room for one more key or index; see what is there with `tpm2_getcap \
             handles-persistent` and `tpm2_getcap handles-nv-index` and remove what is not needed"
        }
        0x14C => {
            "something else is already at this place of the TPM; choose another identity.slot, or look at it \
             with `tpm2_readpublic` and remove it"
        }
        0x902..=0x906 => {
            "the TPM has no free memory for one more key or session; use the kernel's resource manager \
             (identity.tcti = \"device:/dev/tpmrm0\"), or free what a killed program left with \
             `tpm2_flushcontext -t` and `tpm2_flushcontext -s`"
        }
        0x920 | 0x922 | 0x923 => "the TPM limits how often it writes, or is busy; try again in a few seconds",
        0x921 => {
            "the TPM is locked after too many wrong passwords; wait for its recovery time, or run \
             `tpm2_dictionarylockout --clear-lockout` (with the lockout password, if one is set)"
        }
        _ if is(code, 0x05) => DISABLED,
        _ if is(code, 0x22) || is(code, 0x0E) => {
            "a password is set where an empty one was expected: somebody has taken ownership of this TPM (owner \
             password), or set one on the key. Remove it with `tpm2_changeauth -c owner -p PASSWORD`, or, if all \
             in it may be lost, `tpm2_clear`"
        }
        _ if is(code, 0x0B) => {
            "what was looked for is not in the TPM any more; was it cleared? Run `weather-station provision` again"
        }
        _ if is(code, 0x1F) => "the data is damaged, or made for another TPM (its integrity check fails)",
        _ => "the TPM refuses; look the code up with `tpm2_rc_decode`",
    };
    remedy.into()
}

const DISABLED: &str = "this part of the TPM (owner or endorsement hierarchy) is switched off; switch it on in the \
                        firmware's settings, or take the TPM's power away and give it back";

/// TPM_RC_AUTH_FAIL: the password is wrong, and that was counted.
pub fn is_wrong_password(error: Error) -> bool {
    response_code(error).is_some_and(|code| is(code, 0x0E))
}

/// Whether a format-one code is this error, whichever handle, session or parameter it is about.
fn is(code: u32, error: u32) -> bool {
    code & !0xFFF == 0 && code & 0x80 != 0 && code & 0x3F == error
}

/// The number itself: the crate shows it only in the text of the inner error.
fn response_code(error: Error) -> Option<u32> {
    let text = match error {
        Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => code.to_string(),
        _ => return None,
    };
    u32::from_str_radix(text.rsplit("0x").next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_a_person_can_do_something_about_has_a_remedy() {
        for (code, says) in [
            (0xA_000A, "the TPM at T went away in the middle"),
            (0x7_0007, "the TPM at T went away in the middle"),
            (0x100, "`tpm2_startup -c`"),
            (0x101, "failure mode"),
            (0x120, "is switched off"),
            (0x185, "is switched off"),
            (0x12F, "was defined by somebody else"),
            (0x149, "was defined by somebody else"),
            (0x125, "made for another TPM"),
            (0x14B, "no room"),
            (0x14C, "something else is already at this place"),
            (0x18B, "was it cleared?"),
            (0x98E, "a password is set"),
            (0x9A2, "owner password"),
            (0x1DF, "its integrity check fails"),
            (0x902, "no free memory"),
            (0x920, "limits how often it writes"),
            (0x921, "tpm2_dictionarylockout"),
            (0x184, "look the code up"),
        ] {
            let text = remedy(code, "T");
            assert!(text.contains(says), "{code:#x}: {text}");
        }
    }

    #[test]
    fn permission_and_busy_are_told_apart_by_errno() {
        for (errno, says) in [
            (libc::EACCES, "it must be in the group tss"),
            (libc::EBUSY, "another program holds /dev/tpm0; use the kernel's resource manager"),
            (libc::ENOENT, "there is no /dev/tpm0; is the TPM module seated"),
            (libc::ENXIO, "/dev/tpm0 does not open"),
        ] {
            let text = device_remedy("/dev/tpm0", std::io::Error::from_raw_os_error(errno).kind());
            assert!(text.contains(says), "{text}");
        }
    }
}
