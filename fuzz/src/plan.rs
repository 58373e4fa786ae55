//! The plan file.

use strata_runner::plan::{LONGEST, parse};

/// A plan becomes options of one command each, and nothing else: their names are options' names, and the plan's own is fit
/// for a folder.
pub(crate) fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(plan) = parse(text) else { return };
    assert!((1..=64).contains(&plan.name.len()), "{:?}", plan.name);
    assert!(!plan.name.starts_with('.') && !plan.name.contains('/'));
    assert!(!plan.parts.is_empty());
    for option in plan.parts.iter().flat_map(|part| &part.options) {
        let name = option.strip_prefix("--").expect("an option");
        let name = name.split_once('=').map_or(name, |(name, _)| name);
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!name.is_empty() && name.chars().all(letter), "{option:?}");
        assert!(!["output", "resume", "seed"].contains(&name), "{option:?}");
    }
    // A byte-order mark is one in front of all else only.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let remarked = format!("#\n{body}");
    if remarked.len() <= LONGEST {
        assert_eq!(parse(&remarked).expect("a comment changes nothing"), plan);
    }
}
