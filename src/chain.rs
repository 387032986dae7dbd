//! An error with all that is behind it, in one line: for logs, the status document, the page. Knows no error.

use std::error::Error;

/// The error and its causes, outermost first. A cause that an outer text repeats already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let told = |text, source: Option<Told>| Told { text, source: source.map(Box::new) };
        let cause = told("no such file", None);
        let error = told("cannot read it", Some(told("opening /x: no such file", Some(cause))));
        assert_eq!(chain(&error), "cannot read it: opening /x: no such file");
    }
}
