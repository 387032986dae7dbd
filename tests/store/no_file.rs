//! Something else where the database should be, or one that may not be opened: it is set aside, or named.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use weather_station::status::StoreState;

use crate::support::{Place, sequences};

const ASIDE: &str = ".set-aside-20260601T120000000Z";

fn folder(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("mine"), "kept").unwrap();
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

/// None of them is opened: a pipe would wait for a writer, and the stop for the pipe.
#[tokio::test(start_paused = true)]
async fn what_is_no_file_is_set_aside_as_it_is() {
    let kinds = [(folder as fn(&Path), "a directory"), (pipe, "a named pipe"), (socket, "a socket")];
    for (make, what) in kinds {
        let place = Place::new();
        make(place.path());
        let mut store = place.start();
        store.append(2).await;
        let reason = format!("the store is damaged: {} is {what} and no file", place.path().display());
        let events = store.events().await;
        assert_eq!((events[0].kind.as_str(), &events[0].fields["reason"]), ("storeReplaced", &reason.into()));
        assert_eq!(sequences(&store.page().await), [1, 2]);
        store.stop().await;
        let kind = fs::symlink_metadata(place.beside(ASIDE)).unwrap().file_type();
        assert_eq!(
            (kind.is_dir(), kind.is_fifo(), kind.is_socket()),
            (what == "a directory", what == "a named pipe", what == "a socket")
        );
        if kind.is_dir() {
            assert_eq!(fs::read_to_string(place.beside(ASIDE).join("mine")).unwrap(), "kept");
        }
    }
}

/// What is in the database is salvaged.
#[tokio::test(start_paused = true)]
async fn what_is_no_file_in_the_place_of_the_journal_goes_with_its_database() {
    for make in [folder, pipe] {
        let place = Place::new();
        let mut store = place.start();
        store.append(3).await;
        store.stop().await;
        make(&place.beside("-wal"));
        let mut store = place.start_as("second").unwrap();
        assert_eq!(store.events().await[0].fields["salvaged"], 3);
        store.append(1).await;
        assert_eq!(sequences(&store.page().await), [1, 2, 3, 1]);
        store.stop().await;
        assert!(place.beside(&format!("{ASIDE}-wal")).exists());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_named_and_nothing_is_made_where_it_leads() {
    let place = Place::new();
    let target = place.folder.path().join("elsewhere.db");
    std::os::unix::fs::symlink(&target, place.path()).unwrap();
    fs::write(place.beside("-wal"), "left over").unwrap();
    let mut store = place.start();
    store.send(2).await;
    let status = store.status(|status| status.in_memory == 2).await;
    let wanted =
        format!("{} is a symbolic link: name the file itself in `[store] path`", place.path().display());
    assert_eq!((status.state, status.reason), (StoreState::Failing, Some(wanted)));
    assert!(!target.exists());
    fs::remove_file(place.path()).unwrap();
    store.status(|status| status.last_sequence == 2 && status.state == StoreState::Ok).await;
    store.stop().await;
}

/// Root may open everything: without that right it is like anybody else.
#[test]
fn a_database_of_another_account_stays_and_is_named() {
    let program = std::env::current_exe().unwrap();
    let mut command = match rustix::process::geteuid().is_root() {
        true => Command::new("setpriv"),
        false => Command::new("env"),
    };
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    }
    let test = "no_file::inside_a_database_of_another_account_stays_and_is_named";
    let output = command.arg(program).args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "{told}");
}

#[tokio::test(start_paused = true)]
#[ignore = "runs without root's rights, which the test above takes away"]
async fn inside_a_database_of_another_account_stays_and_is_named() {
    // Not even to be read, and to be read alone.
    for mode in [0o000, 0o400] {
        let place = Place::new();
        let mut store = place.start();
        store.append(3).await;
        store.stop().await;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
        let mut store = place.start_as("second").unwrap();
        store.send(2).await;
        let status = store.status(|status| status.in_memory == 2).await;
        let wanted = format!(
            "could not open {}: Permission denied (os error 13): let it, and its folder, belong to the account \
             that the station runs as (chown)",
            place.path().display()
        );
        assert_eq!((status.state, status.reason), (StoreState::Failing, Some(wanted)));
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
        store.status(|status| status.last_sequence == 5 && status.state == StoreState::Ok).await;
        assert_eq!(sequences(&store.page().await), [1, 2, 3, 4, 5]);
        store.stop().await;
    }
}
