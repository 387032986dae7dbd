//! What a twin, its patches and a restart leave in force, and how each is answered.

use proptest::prelude::*;

use serde_json::json;

use super::*;
use crate::config::Config;

fn file() -> Settings {
    Settings::from_file(&Config::default())
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn identity(device: &str) -> Identity {
    Identity { host: "hub.example".into(), device_id: device.into() }
}

fn answer(overlay: &Overlay, name: &str) -> Value {
    json!(overlay.acknowledgements(&file(), Some(overlay)).get(name))
}

#[test]
fn the_good_values_of_a_patch_are_applied_beside_the_bad_ones() {
    let mut overlay = Overlay::of(&identity("one"));
    let patch = json!({"sampleInterval": 5, "altitude": "high", "wind": 3, "keepDays": 30, "$version": 7});
    let changes = overlay.take_patch(&object(patch), 7, &file());
    assert_eq!(changes.applied, ["keepDays = 30", "sampleInterval = 5"]);
    assert_eq!(changes.refused.len(), 2);
    let settings = overlay.settings(&file());
    assert_eq!(settings.sample_interval.as_secs(), 5);
    assert_eq!(settings.keep.as_secs(), 30 * 86_400);
    assert_eq!(settings.altitude, None);
    assert_eq!(answer(&overlay, "sampleInterval"), json!({"value": 5, "ac": 200, "av": 7, "ad": "applied"}));
    assert_eq!(
        answer(&overlay, "altitude"),
        json!({"ac": 400, "av": 7, "ad": "altitude is \"high\", expected a number of metres above sea level, -500 to 9000"})
    );
    let unknown = answer(&overlay, "wind");
    assert_eq!((&unknown["ac"], &unknown["av"]), (&json!(400), &json!(7)));
    assert!(
        unknown["ad"]
            .as_str()
            .unwrap()
            .starts_with("this station has no such property; it has sampleInterval")
    );
    assert!(overlay.acknowledgements(&file(), Some(&overlay)).keys().all(|name| name != "$version"));
}

#[test]
fn a_refused_value_leaves_the_last_good_one_in_force() {
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_patch(&object(json!({"sampleInterval": 5})), 2, &file());
    overlay.take_patch(&object(json!({"sampleInterval": 0})), 3, &file());
    assert_eq!(overlay.settings(&file()).sample_interval.as_secs(), 5);
    let refused = answer(&overlay, "sampleInterval");
    assert_eq!((&refused["value"], &refused["ac"], &refused["av"]), (&json!(5), &json!(400), &json!(3)));
}

#[test]
fn null_goes_back_to_the_file() {
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_patch(&object(json!({"sampleInterval": 5, "altitude": 12.5})), 2, &file());
    overlay.take_patch(&object(json!({"sampleInterval": null, "altitude": null})), 3, &file());
    assert_eq!(overlay.settings(&file()), file());
    assert_eq!(overlay.in_force().count(), 0);
    let answered = answer(&overlay, "sampleInterval");
    assert_eq!((&answered["value"], &answered["ac"], &answered["av"]), (&json!(60), &json!(200), &json!(3)));
    assert!(answered["ad"].as_str().unwrap().contains("configuration file"));
    assert_eq!(answer(&overlay, "altitude").get("value"), None);
}

#[test]
fn a_reconnect_does_not_answer_an_unknown_name_anew() {
    let mut overlay = Overlay::of(&identity("one"));
    let av = |overlay: &Overlay| answer(overlay, "wind")["av"].clone();
    for (desired, version, expected) in
        [(json!({"wind": 1}), 4, 4), (json!({"wind": 1}), 6, 4), (json!({"wind": 2}), 8, 8)]
    {
        overlay.take_whole(&object(desired), version, &file());
        assert_eq!(av(&overlay), expected, "at version {version}");
    }
    overlay.take_patch(&object(json!({"wind": {"from": "north"}})), 9, &file());
    overlay.take_patch(&object(json!({"wind": {"at": 3}})), 10, &file());
    overlay.take_whole(&object(json!({"wind": {"from": "north", "at": 3}})), 12, &file());
    assert_eq!(av(&overlay), 10);
    overlay.take_whole(&object(json!({})), 13, &file());
    assert_eq!(answer(&overlay, "wind"), json!(null));
}

#[test]
fn a_whole_twin_that_no_longer_names_a_property_goes_back_to_the_file() {
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_whole(&object(json!({"sampleInterval": 5, "keepDays": 9})), 4, &file());
    let changes = overlay.take_whole(&object(json!({"keepDays": 9})), 6, &file());
    assert_eq!(changes.applied, ["sampleInterval goes back to the configuration file"]);
    // What has not changed keeps its answer, so that a reconnect reports nothing.
    assert_eq!(answer(&overlay, "keepDays")["av"], 4);
    assert_eq!(overlay.version, 6);
}

#[test]
fn offsets_replace_the_values_of_the_file() {
    let mut config = Config::default();
    config.sensor.offset.temperature = 1.5;
    config.sensor.offset.humidity = 2.0;
    let file = Settings::from_file(&config);
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_patch(&object(json!({"temperatureOffset": -0.5})), 1, &file);
    let offset = overlay.settings(&file).offset;
    assert_eq!((offset.temperature, offset.humidity), (-0.5, 2.0));
}

#[test]
fn patches_of_an_object_are_merged() {
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_patch(&object(json!({"oversampling": {"temperature": 2, "pressure": 8}})), 1, &file());
    overlay.take_patch(&object(json!({"oversampling": {"pressure": null, "humidity": 4}})), 2, &file());
    let settings = overlay.settings(&file());
    assert_eq!(
        Property::Oversampling.in_force(&settings),
        json!({"temperature": 2, "pressure": 1, "humidity": 4})
    );
}

#[test]
fn properties_that_nobody_asked_for_are_reported_as_the_stations_own() {
    let overlay = Overlay::of(&identity("one"));
    let answers = overlay.acknowledgements(&file(), Some(&overlay));
    assert_eq!(answers.len(), 7, "all but the altitude, which has no default");
    assert!(answers.values().all(|answer| (answer.ac, answer.av) == (203, 0)));
}

#[test]
fn it_survives_as_text_and_belongs_to_one_identity() {
    let mut overlay = Overlay::of(&identity("one"));
    overlay.take_patch(&object(json!({"sampleInterval": 5, "keepDays": "x"})), 3, &file());
    let text = serde_json::to_string(&overlay).unwrap();
    let back: Overlay = serde_json::from_str(&text).unwrap();
    assert_eq!(back, overlay);
    assert!(back.belongs_to(&identity("one")));
    assert!(!back.belongs_to(&identity("two")));
    assert!(!Overlay::default().belongs_to(&identity("one")));
}

#[test]
fn a_flood_of_unknown_names_is_answered_for_the_first_ten() {
    let mut overlay = Overlay::of(&identity("one"));
    let mut patch: Map<String, Value> = (0..500).map(|n| (format!("unknown{n}"), json!(n))).collect();
    patch.insert("has space".into(), json!(1));
    patch.insert("x".repeat(1_000), json!(1));
    overlay.take_patch(&patch, 2, &file());
    assert_eq!(overlay.unknown.len(), UNKNOWN_ANSWERED);
    let size = json!(overlay.acknowledgements(&file(), Some(&overlay))).to_string().len();
    assert!(size < 8_192, "{size} bytes");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Thousandths: the last bit of any other number may change on its way through text.
        (-2_000_000..2_000_000).prop_map(|thousandths| Value::from(f64::from(thousandths) / 1000.0)),
        (0_u64..100_000).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("temperature|pressure|humidity|[a-z]{1,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_patch() -> impl Strategy<Value = Map<String, Value>> {
    let names: Vec<String> = Property::ALL.iter().map(|p| p.name().to_owned()).collect();
    let name = prop_oneof![4 => prop::sample::select(names), 1 => ".{0,8}"];
    prop::collection::btree_map(name, any_json(), 0..6).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_asked_the_settings_stay_in_their_ranges(patches in prop::collection::vec(any_patch(), 1..5)) {
        let mut overlay = Overlay::of(&identity("one"));
        for (version, patch) in (1..).zip(&patches) {
            overlay.take_patch(patch, version, &file());
            let settings = overlay.settings(&file());
            for property in Property::ALL {
                let value = property.in_force(&settings);
                let mut trial = file();
                if !value.is_null() {
                    prop_assert_eq!(property.apply(&value, &file(), &mut trial), Ok(()));
                }
                if patch.contains_key(property.name()) {
                    let answers = overlay.acknowledgements(&file(), Some(&overlay));
                    prop_assert!(answers.get(property.name()).is_some_and(|answer| answer.av == version));
                }
            }
        }
        let text = serde_json::to_string(&overlay).unwrap();
        let back: Overlay = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.settings(&file()), overlay.settings(&file()));
    }

    #[test]
    fn patches_and_the_whole_twin_end_in_the_same_settings(patches in prop::collection::vec(any_patch(), 1..5)) {
        // Only where nothing was refused: a refused value leaves the one before it, which the twin no longer has.
        let mut overlay = Overlay::of(&identity("one"));
        let mut twin = Value::Object(Map::new());
        let mut refused = false;
        for (version, patch) in (1..).zip(&patches) {
            refused |= !overlay.take_patch(patch, version, &file()).refused.is_empty();
            merge(&mut twin, &Value::Object(patch.clone()));
        }
        let mut fresh = Overlay::of(&identity("one"));
        fresh.take_whole(twin.as_object().unwrap(), 9, &file());
        if !refused {
            prop_assert_eq!(fresh.settings(&file()), overlay.settings(&file()));
        }
    }
}
