//! What has to be sent so that the hub's reported properties become what they should be: a merge patch (RFC 7396),
//! empty where they are already. Pure.

use serde_json::{Map, Value};

/// From `shown`, what the hub has, to `wanted`. What is shown and not wanted is removed only where it is ours: one
/// of `own`, or an answer to a desired property (it has an `ac`). Other programs' properties stay.
pub fn difference(
    shown: &Map<String, Value>,
    wanted: &Map<String, Value>,
    own: &[&str],
) -> Map<String, Value> {
    let mut patch = changed(shown, wanted);
    for (name, value) in shown {
        let ours = own.contains(&name.as_str()) || value.get("ac").is_some();
        if ours && wanted.get(name).is_none_or(Value::is_null) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch
}

fn changed(shown: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, value) in wanted {
        match (shown.get(name), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(shown)), Value::Object(wanted)) => {
                let mut inner = changed(shown, wanted);
                for gone in shown.keys().filter(|key| wanted.get(*key).is_none_or(Value::is_null)) {
                    inner.insert(gone.clone(), Value::Null);
                }
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            (Some(shown), wanted) if same(shown, wanted) => {}
            (_, wanted) => {
                patch.insert(name.clone(), wanted.clone());
            }
        }
    }
    patch
}

/// The hub may give 5.0 back as 5.
fn same(shown: &Value, wanted: &Value) -> bool {
    match (shown.as_f64(), wanted.as_f64()) {
        (Some(shown), Some(wanted)) => (shown - wanted).abs() <= f64::EPSILON * wanted.abs(),
        _ => shown == wanted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::settings::merge;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn between(shown: Value, wanted: Value) -> Value {
        Value::Object(difference(&object(shown), &object(wanted), &["lastError"]))
    }

    #[test]
    fn only_what_differs_is_sent() {
        let shown = json!({"a": 5.0, "b": {"x": 1, "y": 2}, "c": "old", "d": null});
        let wanted = json!({"a": 5, "b": {"x": 1, "y": 3}, "c": "new", "e": null});
        assert_eq!(between(shown.clone(), wanted), json!({"b": {"y": 3}, "c": "new"}));
        assert_eq!(between(shown.clone(), shown), json!({}));
    }

    #[test]
    fn what_is_ours_and_no_longer_wanted_goes_and_the_rest_stays() {
        let shown = json!({"wind": {"ac": 400, "av": 2}, "theirs": {"x": 1}, "lastError": "e", "b": {"x": 1, "y": 2}});
        let wanted = json!({"b": {"x": 1}});
        assert_eq!(between(shown, wanted), json!({"wind": null, "lastError": null, "b": {"y": null}}));
    }

    fn any_object() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{0,3}".prop_map(Value::from)];
        let value = leaf.prop_recursive(2, 12, 3, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_patch_leads_from_what_is_shown_to_what_is_wanted(shown in any_object(), wanted in any_object()) {
            let patch = difference(&shown, &wanted, &["a", "b", "c", "d"]);
            let mut result = Value::Object(shown);
            merge(&mut result, &Value::Object(patch));
            prop_assert_eq!(&result, &Value::Object(wanted.clone()));
            prop_assert!(difference(result.as_object().unwrap(), &wanted, &[]).is_empty());
        }
    }
}
