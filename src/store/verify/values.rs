//! Takes JSON values out of a file one after another, however they are spread over lines; of an array at the top its
//! elements. What is cut short or no JSON costs its own line and no other. Knows JSON, not messages.

use std::io::BufRead;

use serde_json::Value;

/// A value that is longer than this is given up. A hub takes no message of more than 256 KiB.
const LONGEST: usize = 4 << 20;

/// Tells each value with the number of the line that it begins on, and each line that holds none. Each byte is looked
/// at once; after a value that was given up, those behind its first line once more.
pub(super) fn each(mut file: impl BufRead, tell: impl FnMut(u64, Option<Value>)) -> std::io::Result<()> {
    let mut values =
        Values { tell, bytes: Vec::new(), at: 0, line: 1, part: None, array: None, skips: false };
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        values.bytes.extend_from_slice(piece);
        let read = piece.len();
        file.consume(read);
        values.scan();
        values.forget();
    }
    values.end();
    Ok(())
}

struct Values<T> {
    tell: T,
    /// From the beginning of the part that is being read.
    bytes: Vec<u8>,
    at: usize,
    line: u64,
    part: Option<Part>,
    array: Option<Array>,
    /// The rest of this line belongs to something that was given up.
    skips: bool,
}

/// A value, or an element of an array at the top.
struct Part {
    start: usize,
    line: u64,
    /// What it has opened, without its strings.
    open: Vec<u8>,
    string: bool,
    escaped: bool,
    /// Neither object nor array nor string: a number, a word, or no JSON at all.
    plain: bool,
    /// The last byte that was no white space.
    before: u8,
}

struct Array {
    line: u64,
    /// Behind an element: a comma has to come, or the end.
    behind: bool,
}

enum Goes {
    On,
    /// With this byte.
    Ends,
    /// Before this byte.
    Ended,
    /// This is no JSON.
    Wrong,
}

impl<T: FnMut(u64, Option<Value>)> Values<T> {
    fn scan(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            let in_array = self.array.is_some();
            match &mut self.part {
                _ if self.skips => {
                    self.skips = byte != b'\n';
                    self.step(byte);
                }
                None => self.between(byte),
                Some(part) => match part.goes(byte, in_array) {
                    Goes::On => self.step(byte),
                    Goes::Ends => {
                        self.step(byte);
                        self.complete();
                    }
                    Goes::Ended => self.complete(),
                    Goes::Wrong => self.give_up(),
                },
            }
        }
        if self.part.as_ref().is_some_and(|part| self.at - part.start > LONGEST) {
            self.give_up();
            self.scan();
        }
    }

    fn step(&mut self, byte: u8) {
        self.at += 1;
        self.line += u64::from(byte == b'\n');
    }

    fn between(&mut self, byte: u8) {
        match (byte, &mut self.array) {
            // A byte order mark is as good as a space.
            (b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf, _) | (b',', None) => self.step(byte),
            (b',', Some(array)) => {
                array.behind = false;
                self.step(byte);
            }
            (b']', Some(_)) => {
                self.array = None;
                self.step(byte);
            }
            // Not an array after all, or one that was cut short.
            (_, Some(Array { line, behind: true })) => {
                let line = *line;
                self.array = None;
                (self.tell)(line, None);
            }
            (b'[', None) => {
                self.array = Some(Array { line: self.line, behind: false });
                self.step(byte);
            }
            _ => {
                self.part = Some(Part::begin(byte, self.at, self.line));
                self.step(byte);
            }
        }
    }

    fn complete(&mut self) {
        let Some(part) = &self.part else { return };
        match serde_json::from_slice(&self.bytes[part.start..self.at]) {
            Ok(value) => {
                (self.tell)(part.line, Some(value));
                self.part = None;
                if let Some(array) = &mut self.array {
                    array.behind = true;
                }
            }
            Err(_) => self.give_up(),
        }
    }

    /// Goes on behind the first line of what is being read.
    fn give_up(&mut self) {
        let Some(part) = self.part.take() else { return };
        (self.tell)(part.line, None);
        let first_line = self.bytes[part.start..self.at].iter().position(|byte| *byte == b'\n');
        self.skips = first_line.is_none();
        if let Some(length) = first_line {
            self.at = part.start + length + 1;
            self.line = part.line + 1;
        }
        if let Some(array) = &mut self.array {
            array.behind = false;
        }
    }

    fn end(&mut self) {
        while let Some(part) = &self.part {
            if part.plain {
                self.complete()
            } else {
                self.give_up()
            }
            self.scan();
        }
        if let Some(array) = self.array.take() {
            (self.tell)(array.line, None);
        }
    }

    fn forget(&mut self) {
        let done = self.part.as_ref().map_or(self.at, |part| part.start);
        self.bytes.drain(..done);
        self.at -= done;
        if let Some(part) = &mut self.part {
            part.start = 0;
        }
    }
}

impl Part {
    fn begin(byte: u8, start: usize, line: u64) -> Self {
        let (nests, string) = (matches!(byte, b'{' | b'['), byte == b'"');
        Self {
            start,
            line,
            open: if nests { vec![byte] } else { Vec::new() },
            string,
            escaped: false,
            plain: !nests && !string,
            before: byte,
        }
    }

    /// Where it ends, and at once where it cannot be JSON: the lines behind one that was cut short are not swallowed.
    fn goes(&mut self, byte: u8, in_array: bool) -> Goes {
        if self.plain {
            let ended = byte == b'\n' || in_array && matches!(byte, b',' | b']');
            return if ended { Goes::Ended } else { Goes::On };
        }
        if self.string {
            let escaped = self.escaped;
            self.escaped = byte == b'\\' && !escaped;
            return match byte {
                b'\n' => Goes::Wrong,
                b'"' if !escaped => {
                    self.string = false;
                    self.before = byte;
                    if self.open.is_empty() { Goes::Ends } else { Goes::On }
                }
                _ => Goes::On,
            };
        }
        let in_list = self.open.last() == Some(&b'[');
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Goes::On,
            b'"' if !matches!(self.before, b'{' | b'[' | b':' | b',') => return Goes::Wrong,
            b'"' => self.string = true,
            b'{' | b'[' if matches!(self.before, b':' | b'[') || self.before == b',' && in_list => {
                self.open.push(byte);
            }
            b'{' | b'[' => return Goes::Wrong,
            b'}' | b']' if in_list == (byte == b']') => {
                self.open.pop();
                if self.open.is_empty() {
                    return Goes::Ends;
                }
            }
            b'}' | b']' => return Goes::Wrong,
            _ => {}
        }
        self.before = byte;
        Goes::On
    }
}

#[cfg(test)]
mod tests {
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
}
