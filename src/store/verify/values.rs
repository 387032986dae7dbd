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
mod tests;
