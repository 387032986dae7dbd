//! Values that are whole, cut short, spread over lines, and no text at all.

use super::*;

/// What was told, as text: `line value`, or `line -`.
fn told(text: &str) -> Vec<String> {
    let mut told = Vec::new();
    // In small pieces, for values that are read in several.
    let file = std::io::BufReader::with_capacity(7, text.as_bytes());
    let mut tell = |line: u64, value: Option<Value>| {
        told.push(format!("{line} {}", value.map_or("-".into(), |value| value.to_string())));
    };
    each(file, &mut tell).unwrap();
    told
}

#[test]
fn values_are_found_however_they_are_spread_over_lines() {
    assert_eq!(
        told("{\"a\":1}\n\n  {\"b\":[{}]}\r\n{\"c\":\"}\\\"{\"}"),
        ["1 {\"a\":1}", "3 {\"b\":[{}]}", "4 {\"c\":\"}\\\"{\"}"]
    );
    assert_eq!(told("{\n\"a\":\n1\n}{\"b\":2}\n"), ["1 {\"a\":1}", "4 {\"b\":2}"]);
    assert_eq!(told("\u{feff}\"text\"\n12\ntrue"), ["1 \"text\"", "2 12", "3 true"]);
    assert_eq!(told("{\"a\":1},\n{\"b\":2},\n"), ["1 {\"a\":1}", "2 {\"b\":2}"]);
}

#[test]
fn of_an_array_the_elements_are_told() {
    for text in ["[1,{\"a\":2},[3]]", "[1, {\"a\" : 2}, [3]\n]"] {
        assert_eq!(told(text), ["1 1", "1 {\"a\":2}", "1 [3]"]);
    }
    assert_eq!(told("[\n{\n\"a\":1\n},\n{\"b\":2}\n]\n{}"), ["2 {\"a\":1}", "5 {\"b\":2}", "7 {}"]);
    assert_eq!(told("[]\n[ ]"), [""; 0]);
}

#[test]
fn what_is_cut_short_costs_its_own_line_and_no_other() {
    for cut in [
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a",
        "{",
        "{\"a\":[",
        "{\"a\":{\"b\":1}",
        "\"a",
        "tru",
        "}",
        "{]",
    ] {
        let text = format!("{{\"x\":1}}\n{cut}\n{{\"y\":2}}\n{{\"z\":[3]}}\n");
        assert_eq!(told(&text), ["1 {\"x\":1}", "2 -", "3 {\"y\":2}", "4 {\"z\":[3]}"], "{cut}");
    }
    for cut in ["[", "[1,"] {
        let mut told = told(&format!("{cut}\n{{\"y\":2}}\n{{\"z\":[3]}}\n"));
        told.retain(|line| !line.ends_with(" 1"));
        assert_eq!(told, ["2 {\"y\":2}", "1 -", "3 {\"z\":[3]}"], "{cut}");
    }
    assert_eq!(
        told("[{\"a\":1},{\"b\n{\"y\":2}\n{\"z\":3}"),
        ["1 {\"a\":1}", "1 -", "2 {\"y\":2}", "1 -", "3 {\"z\":3}"]
    );
    assert_eq!(told("[{\"a\":1},"), ["1 {\"a\":1}", "1 -"]);
}

#[test]
fn bytes_that_are_no_text_cost_their_line() {
    let mut told = Vec::new();
    let bytes = b"{\"a\":1}\n\xff\xfe\x00\n{\"b\":\"\xff\"}\n{\"c\":3}";
    each(&bytes[..], |line, value| told.push((line, value.is_some()))).unwrap();
    assert_eq!(told, [(1, true), (2, false), (3, false), (4, true)]);
}

#[test]
fn a_long_array_is_read_in_the_time_of_its_length_and_a_long_value_is_given_up() {
    let element = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    let mut text = format!("[\n{}\n]\n", vec![element.as_str(); 3 * LONGEST / 1000].join(",\n"));
    let mut count = 0;
    each(text.as_bytes(), |_, value| count += usize::from(value.is_some())).unwrap();
    assert_eq!(count, 3 * LONGEST / 1000);
    text = format!("{{\"a\":\"{}\"}}\n{element}", "x".repeat(2 * LONGEST));
    let mut told = Vec::new();
    let file = std::io::BufReader::new(text.as_bytes());
    each(file, |line, value| told.push((line, value.is_some()))).unwrap();
    assert_eq!(told, [(1, false), (2, true)]);
}
