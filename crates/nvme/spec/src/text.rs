//! Text fields of fixed length.

use std::fmt;

/// A text field (ASCII padded with spaces, Base 4.5.2; NQNs end with a NUL, Base 4.7) as it may be shown or compared:
/// without its padding, and with what is no printable ASCII as `\xNN`, so that a controller's answer cannot steer a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The text in a field; all from its first NUL on is padding.
    pub fn new(field: &'a [u8]) -> Text<'a> {
        let end = field.iter().position(|byte| *byte == 0);
        Text(field[..end.unwrap_or(field.len())].trim_ascii())
    }

    /// Whether nothing but padding is there.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self
            .0
            .iter()
            .flat_map(|byte| match byte {
                // The quotes that the escape would give these two are not wanted.
                b'\'' | b'"' => vec![*byte],
                _ => std::ascii::escape_default(*byte).collect(),
            })
            .map(char::from)
            .collect();
        f.pad(&shown)
    }
}

/// `text` as a field of ASCII padded with spaces; what is too long is cut, what is no printable ASCII becomes `?`.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (byte, char) in field.iter_mut().zip(text.chars()) {
        *byte = match char {
            ' '..='~' => char as u8,
            _ => b'?',
        };
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_goes_and_control_characters_are_shown() {
        let shown = |bytes: &[u8]| Text::new(bytes).to_string();
        assert_eq!(shown(b"  S4EVNX0R123456    "), "S4EVNX0R123456");
        assert_eq!(shown(b"nqn.2014-08.org\0\0garbage"), "nqn.2014-08.org");
        assert_eq!(shown(b"a\x1b[2Jb\xff \"c'"), "a\\x1b[2Jb\\xff \"c'");
        assert_eq!(shown(b"a\\x1b"), "a\\\\x1b");
        assert!(Text::new(&[b' '; 20]).is_empty() && Text::new(&[0; 20]).is_empty());
        assert_eq!(&padded::<8>("1.0"), b"1.0     ");
        assert_eq!(&padded::<4>("toolong"), b"tool");
        assert_eq!(&padded::<4>("é\n"), b"??  ");
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let shown = Text::new(&bytes).to_string();
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", shown);
        }

        #[test]
        fn padding_is_undone(text in "[!-~]([ -~]{0,18}[!-~])?") {
            let field = padded::<20>(&text);
            prop_assert_eq!(Text::new(&field), Text(text.as_bytes()));
        }
    }
}
