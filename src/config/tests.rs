//! The file as people get it wrong.

use std::time::Duration;

use super::*;

fn problems(text: &str) -> String {
    parse(text).unwrap_err().join("\n")
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn every_key_of_the_contract_is_read() {
    let config = parse(
        r#"
        [station]
        altitude = 120
        [sensor]
        source = "simulated"
        bus = "/dev/i2c-3"
        address = 0x77
        interval = "5s"
        oversampling = { temperature = 2, pressure = 16, humidity = 4 }
        offset = { temperature = -0.5, pressure = 1.25, humidity = 3 }
        trace = "weather.csv"
        speed = 600
        [identity]
        source = "key-file"
        tcti = "swtpm:host=127.0.0.1,port=2321"
        slot = 9
        key_file = "/etc/weather-station/identity"
        [provisioning]
        id_scope = "0ne00123ABC"
        endpoint = "127.0.0.1:8443"
        registration_id = "mast-7"
        [hub]
        transport = "websocket"
        port = 15671
        websocket_port = 8443
        ca_file = "ca.pem"
        token_lifetime = "2m"
        [telemetry]
        batch = 100
        max_messages_per_second = 100
        readings_per_message = 10
        [store]
        path = "readings.db"
        max_size = "64MiB"
        keep = "30d"
        max_loss = "60s"
        [showcase]
        listen = ""
        "#,
    )
    .unwrap();
    assert_eq!(config.station.altitude, Some(120.0));
    assert_eq!(config.sensor.source, SensorSource::Simulated);
    assert_eq!(config.sensor.address, Some(0x77));
    assert_eq!(config.sensor.interval, Duration::from_secs(5));
    assert_eq!(config.sensor.oversampling, Oversampling { temperature: 2, pressure: 16, humidity: 4 });
    assert_eq!(config.sensor.offset, Offset { temperature: -0.5, pressure: 1.25, humidity: 3.0 });
    assert_eq!(config.identity.slot, 9);
    assert_eq!(config.provisioning.endpoint, "127.0.0.1:8443");
    assert_eq!(config.hub.transport, Transport::Websocket);
    assert_eq!(config.hub.token_lifetime, Duration::from_secs(120));
    assert_eq!(config.telemetry.readings_per_message, 10);
    assert_eq!(config.store.max_size, 64 << 20);
    assert_eq!(config.store.max_loss, Duration::from_secs(60));
    assert_eq!(config.showcase.listen, None);
    let shown = in_force(&config);
    assert_eq!(
        (shown["store.max_size"].value.as_str(), shown["store.max_size"].from),
        (Some("64MiB"), "file")
    );
    let keys = config.set_in_file.iter().filter(|key| key.matches('.').count() == 1).count();
    assert_eq!(shown.len(), keys, "status shows every key");
}

#[test]
fn readings_may_be_kept_for_a_second() {
    assert_eq!(parse("[store]\nkeep = \"1s\"").unwrap().store.keep, Duration::from_secs(1));
}

#[test]
fn what_is_wrong_is_named_with_line_value_and_expectation() {
    for (text, expected) in [
        ("[sensor]\ninterval = \"0s\"", "line 2: `sensor.interval` is \"0s\", expected 1s to 24h"),
        (
            "[sensor]\nintervall = \"5s\"",
            "line 2: `sensor.intervall` is not a key; this section has: source, bus, address, interval",
        ),
        ("[senser]\n", "line 1: `senser` is not a section; there are: station, sensor"),
        ("[sensor]\naddress = 0x75", "`sensor.address` is 0x75, expected 0x76 or 0x77"),
        (
            "[sensor]\noversampling = { temperature = 3 }",
            "`sensor.oversampling.temperature` is 3, expected 1, 2, 4, 8 or 16",
        ),
        (
            "[sensor]\nsource = \"bmp280\"",
            "`sensor.source` is \"bmp280\", expected \"bme280\" or \"simulated\"",
        ),
        ("[identity]\nslot = 10", "`identity.slot` is 10, expected 0 to 9"),
        ("[identity]\ntcti = \"device\"", "`identity.tcti` is \"device\", expected \"device:/dev/tpmrm0\""),
        ("[identity]\nsource = \"key-file\"", "`identity.key_file` is empty"),
        (
            "[provisioning]\nregistration_id = \"roof.\"",
            "`provisioning.registration_id` is \"roof.\", expected at most 128 letters",
        ),
        ("[identity]\ntcti = \"swtpm:port=0\"", "`identity.tcti` is \"swtpm:port=0\", expected"),
        (
            "[provisioning]\nendpoint = \"host:0\"",
            "`provisioning.endpoint` is \"host:0\", expected a host or host:port",
        ),
        ("[provisioning]\nendpoint = \"[::1]:99999\"", "`provisioning.endpoint` is \"[::1]:99999\""),
        ("[provisioning]\nendpoint = \"[::1\"", "`provisioning.endpoint` is \"[::1\""),
        ("[hub]\ntoken_lifetime = \"1m\"", "expected 2m to 24h"),
        ("[hub]\nport = 0", "expected a TCP port, 1 to 65535"),
        ("[telemetry]\nbatch = 0", "expected 1 to 10000 readings"),
        ("[store]\nmax_size = 12", "`store.max_size` is 12, expected 1MiB to 1TiB"),
        ("[store]\nkeep = \"0s\"", "`store.keep` is \"0s\", expected 1s to 36500d"),
        ("[showcase]\nlisten = \"8080\"", "expected \"ADDRESS:PORT\""),
        ("station = 3", "`station` is an integer, expected a section `[station]`"),
        ("[sensor\n", "line 1: not TOML"),
        ("[sensor]\nbus = \"\"", "line 2: `sensor.bus` is \"\", expected a device such as \"/dev/i2c-1\""),
        (
            "[store]\npath = \"\"",
            "line 2: `store.path` is \"\", expected a file such as \"/var/lib/weather-station/readings.db\"",
        ),
    ] {
        let problems = problems(text);
        assert!(problems.contains(expected), "{text:?} gave {problems:?}, expected {expected:?}");
    }
}

#[test]
fn an_endpoint_is_a_host_or_an_address_with_or_without_a_port() {
    for endpoint in
        ["global.azure-devices-provisioning.net", "h:8443", "127.0.0.1:1", "[::1]:8443", "[::1]", "::1"]
    {
        let config = parse(&format!("[provisioning]\nendpoint = \"{endpoint}\"")).unwrap();
        assert_eq!(config.provisioning.endpoint, endpoint);
    }
}

#[test]
fn all_problems_are_reported_together() {
    let text = "[sensor]\ninterval = \"0s\"\nbus = 3\n[hub]\nport = -1\nwhat = 1\n";
    assert_eq!(parse(text).unwrap_err().len(), 4);
}

#[test]
fn a_secret_in_the_wrong_place_is_refused_and_not_repeated() {
    let key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
    let string = format!("HostName=h;DeviceId=d;SharedAccessKey={key}");
    let short = "sharedaccesskey=c2VjcmV0c2VjcmV0";
    let token = "SharedAccessSignature sr=h&sig=c2VjcmV0&se=1";
    for (section, name) in [
        ("identity", "slot"),
        ("identity", "key_file"),
        ("identity", "tcti"),
        ("hub", "ca_file"),
        ("sensor", "bus"),
        ("sensor", "trace"),
        ("sensor", "interval"),
        ("provisioning", "id_scope"),
        ("provisioning", "endpoint"),
        ("provisioning", "registration_id"),
        ("store", "path"),
    ] {
        for (secret, kind) in [
            (&*string, "a connection string"),
            (short, "a connection string"),
            (token, "a token"),
            (key, "what could be a key"),
        ] {
            let problems = problems(&format!("[{section}]\n{name} = \"{secret}\""));
            let expected = format!("line 2: `{section}.{name}` is {kind}, expected");
            assert!(problems.contains(&expected) && !problems.contains("c2Vj"), "{problems}");
        }
    }
    let refused = problems(&format!("[sensor]\nbus = \"{}\"", &key[..43]));
    assert!(refused.contains("`sensor.bus` is what could be a key"), "{refused}");
    for text in [format!("[hub]\n\"{string}\" = 1"), format!("\n\"{key}\" = 1"), format!("[hub]\n{string}")] {
        let problems = problems(&text);
        assert!(problems.contains("line 2: ") && !problems.contains("c2Vj"), "{problems}");
    }
    // The letters of a key, and yet a path.
    let path = "/etc/weatherstation/identity";
    let config = parse(&format!("[identity]\nkey_file = \"{path}\"")).unwrap();
    assert_eq!(config.identity.key_file.to_str(), Some(path));
}
