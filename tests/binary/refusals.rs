//! Commands that cannot do what they were asked to: the exit status, and what is said.

use super::{binary, command, lonely, text};

#[test]
fn wrong_arguments_end_with_64_and_help_with_0() {
    for arguments in [
        &["bogus"][..],
        &["run", "--fast"],
        &["provision"],
        &["provision", "--show", "--clear"],
        &["verify"],
        &[],
        // Values too, before the configuration (there is none here) or a key is read.
        &["token", "--lifetime", "0s"],
        &["token", "--lifetime", "24h 1s"],
        &["provision", "--host", "", "--device-id", "roof", "--key-file", "/no/such/key"],
        &["provision", "--host", "https://x", "--device-id", "roof", "--key-file", "/no/such/key"],
        &["provision", "--host", "x:5671", "--device-id", "roof", "--key-file", "/no/such/key"],
        &["provision", "--host", "h.example", "--device-id", "", "--key-file", "/no/such/key"],
    ] {
        assert_eq!(binary().args(arguments).output().unwrap().status.code(), Some(64), "{arguments:?}");
    }
    let misplaced = "HostName=h;SharedAccessKey=c2VjcmV0";
    let refused = binary()
        .args(["provision", "--host", misplaced, "--device-id", "d", "--key-file", "-"])
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert!(
        said.contains("--host") && said.contains("expected a host name") && !said.contains("c2V"),
        "{said}"
    );
    for arguments in [&["--help"][..], &["--version"], &["provision", "--help"]] {
        assert_eq!(binary().args(arguments).output().unwrap().status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_secret_among_the_arguments_is_not_repeated() {
    let string = "HostName=h;DeviceId=roof;SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
    let key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
    let [with_force, as_option, as_lifetime] =
        ["--force=", "--", "--lifetime="].map(|option| format!("{option}{key}"));
    for (arguments, expected) in [
        (
            &["provision", "--connection-string-file", string][..],
            "--connection-string-file <FILE>: expected the path",
        ),
        (&["provision", "--connection-string-file", key], "this is what could be a key (not shown)"),
        (
            &["provision", "--host", "h", "--device-id", "d", "--key-file", key],
            "--key-file <FILE>: expected the path",
        ),
        (
            &["provision", "--host", "h", "--device-id", "d", "--key-file", string],
            "this is a connection string",
        ),
        (&["--config", string, "check"], "--config <FILE>: expected the path"),
        (&["provision", string], "an argument is a connection string (not shown)"),
        (&["provision", "--dps", key], "an argument is what could be a key (not shown)"),
        (&["provision", "--dps", &with_force], "an argument is what could be a key (not shown)"),
        (&["provision", &as_option], "an argument is what could be a key (not shown)"),
        (
            &["verify", key],
            "<FILE>...: expected the path of a file, and this is what could be a key (not shown)",
        ),
        (&["verify", string], "this is a connection string (not shown)"),
        (&[string], "put it into a file"),
        (&["token", &as_lifetime], "put it into a file"),
        (&["token", "--lifetime", string], "put it into a file"),
    ] {
        let output = binary().args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(expected) && !said.contains("c2Vj"), "{arguments:?} said {said:?}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let missing = binary().args(["--config", "/no/such/file.toml", "run"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(78));
    let said = text(&missing.stderr);
    assert!(
        said.contains("/no/such/file.toml") && said.contains("--config") && said.contains("No such file"),
        "{said}"
    );

    for (config, expected) in [
        ("[sensor]\nintervall = \"5s\"\n", "line 2: `sensor.intervall` is not a key"),
        ("[sensor]\ninterval = \"90000s\"\n", "`sensor.interval` is \"90000s\", expected 1s to 24h"),
    ] {
        let output = command(dir.path(), config, &["run"]);
        assert_eq!(output.status.code(), Some(78), "{config}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(expected), "{config}: {}", text(&output.stderr));
    }
}

#[test]
fn a_configuration_that_is_no_utf_8_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("latin-1.toml");
    std::fs::write(&file, b"# all is well\n[store]\npath = \"/srv/d\xe9p\xf4t/readings.db\"\n").unwrap();
    for arguments in [&["run"][..], &["check"]] {
        let output = binary().arg("--config").arg(&file).args(arguments).output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        let expected = "line 3: the byte 0xe9 is no UTF-8 text, expected a file that is saved as UTF-8";
        assert!(said.contains("latin-1.toml is wrong") && said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains("write one"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_trace_that_cannot_be_replayed_is_a_wrong_configuration_for_every_command_that_measures() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.csv");
    let header = "time,temperature_celsius,relative_humidity_percent,pressure_hectopascal";
    std::fs::write(&damaged, format!("{header}\nyesterday,warm\n")).unwrap();
    for (trace, expected) in [
        ("/no/such/trace.csv", "No such file"),
        (damaged.to_str().unwrap(), "line 2: expected a time and three numbers, found `yesterday,warm`"),
    ] {
        let config = format!(
            "[sensor]\ntrace = \"{trace}\"\n{}[showcase]\nlisten = \"\"\n",
            lonely(dir.path()).trim_start_matches("[sensor]\n")
        );
        for arguments in [&["run"][..], &["read"], &["check"]] {
            let output = command(dir.path(), &config, arguments);
            let said = text(&output.stderr) + &text(&output.stdout);
            assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
            for part in ["command.toml", "`sensor.trace`", trace, expected] {
                assert!(said.contains(part), "{arguments:?} said {said}, expected {part}");
            }
            assert!(!said.contains("wiring"), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_missing_part_is_named_with_its_remedy_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let key = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0";
    let too_long = "QUFB".repeat(30);
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let no_device = write("no-device", &format!("HostName=h.example;SharedAccessKey={key}"));
    let not_base64 = write("not-base64", "this is no base64!");
    let long = write("long", &too_long);
    let good = write("good", &format!("HostName=h.example;DeviceId=roof;SharedAccessKey={key}"));
    // As Windows saves UTF-8: with a mark before the first letter.
    let marked =
        write("marked", &format!("\u{feff}HostName=h.example;DeviceId=roof;SharedAccessKey={key}\r\n"));
    let marked_key = write("marked-key", &format!("\u{feff}{key}\r\n"));
    let cases: [(&[&str], &str); 9] = [
        (&["status"], "start it with `systemctl start weather-station`"),
        (&["token"], "/dev/no-tpm"),
        (&["provision", "--connection-string-file", &good], "/dev/no-tpm"),
        (&["provision", "--connection-string-file", &marked], "/dev/no-tpm"),
        (
            &["provision", "--host", "h.example", "--device-id", "roof", "--key-file", &marked_key],
            "/dev/no-tpm",
        ),
        (&["provision", "--connection-string-file", &no_device], "DeviceId"),
        (&["provision", "--connection-string-file", "/no/such/secret"], "/no/such/secret"),
        (&["provision", "--host", "h.example", "--device-id", "roof", "--key-file", &not_base64], "base64"),
        (&["provision", "--host", "h.example", "--device-id", "roof", "--key-file", &long], "64"),
    ];
    for (arguments, expected) in cases {
        let config = format!("{}[showcase]\nlisten = \"127.0.0.1:1\"\n", lonely(dir.path()));
        let output = command(dir.path(), &config, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?} said {said:?}, expected {expected:?}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed {}", text(&output.stdout));
        assert!(
            ![key, "this is no base64", too_long.as_str()].iter().any(|secret| said.contains(secret)),
            "{said}"
        );
    }
}

#[test]
fn nothing_is_put_into_a_tpm_that_the_station_would_not_use() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        "[identity]\nsource = \"key-file\"\nkey_file = \"/etc/the-key\"\ntcti = \"device:/dev/no-tpm\"\n";
    for arguments in [
        &["provision", "--connection-string-file", "/no/such/secret"][..],
        &["provision", "--host", "h.example", "--device-id", "roof", "--key-file", "/no/such/secret"],
        &["provision", "--dps"],
    ] {
        let output = command(dir.path(), config, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("put the connection string into /etc/the-key"), "{arguments:?}: {said}");
    }
    let clear = command(dir.path(), config, &["provision", "--clear"]);
    let said = text(&clear.stderr);
    assert_eq!(clear.status.code(), Some(1), "{said}");
    assert!(said.contains("delete /etc/the-key") && !said.contains("/dev/no-tpm"), "{said}");
}

/// `verify` reads nothing but its files.
#[test]
fn a_wrong_configuration_ends_every_command_that_reads_it_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[identity]\nslot = 10\n";
    let exported = dir.path().join("exported.jsonl");
    std::fs::write(&exported, "").unwrap();
    for arguments in [
        &["run"][..],
        &["read"],
        &["check"],
        &["status"],
        &["token"],
        &["export"],
        &["provision", "--show"],
        &["provision", "--clear"],
        &["provision", "--dps"],
        &["provision", "--show-enrollment"],
        &["provision", "--connection-string-file", "/no/such/secret"],
    ] {
        let output = command(dir.path(), config, arguments);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains("`identity.slot`"), "{arguments:?}: {said}");
    }
    let verify = command(dir.path(), config, &["verify", exported.to_str().unwrap()]);
    assert_ne!(verify.status.code(), Some(78), "{}", text(&verify.stderr));
}

#[test]
fn the_status_of_a_station_without_a_page_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{}[showcase]\nlisten = \"\"\n", lonely(dir.path()));
    for arguments in [&["status"][..], &["status", "--json"]] {
        let output = command(dir.path(), &config, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("`showcase.listen` is empty; set it to an address"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
    }
}
