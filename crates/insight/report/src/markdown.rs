//! The report as Markdown (CommonMark with tables).

use std::fmt::Write as _;

use strata_analysis::Analysis;
use strata_record::Run;

use crate::section::Section;
use crate::table::Table;
use crate::view::View;

/// The report of a run as Markdown, for `report.md`: the answer, what to doubt, figures, ratios, each cell, environment,
/// plan. Plots are in the HTML report alone.
pub fn markdown(run: &Run, analysed: &Analysis<'_>) -> String {
    let view = View::of(run, analysed);
    let mut out = String::new();
    write(&mut out, &view).unwrap_or_default();
    out
}

fn write(out: &mut String, view: &View) -> std::fmt::Result {
    writeln!(out, "# {}\n", plain(&view.title))?;
    writeln!(out, "{}\n", plain(&view.subtitle))?;
    if !view.others.is_empty() {
        writeln!(out, "{}\n", plain(&view.others))?;
    }
    writeln!(out, "**{}**", plain(&view.answer))?;
    if !view.doubts.is_empty() {
        writeln!(out, "\n## What to doubt\n")?;
        list(out, &view.doubts)?;
    }
    writeln!(out, "\n## Figures")?;
    table(out, &view.figures)?;
    writeln!(out)?;
    list(out, &view.figure_notes)?;
    writeln!(out, "\n## Ratios")?;
    if view.contrasts.rows.is_empty() {
        writeln!(out, "\n{}", plain(view.no_contrasts))?;
    } else {
        table(out, &view.contrasts)?;
    }
    if !view.contrast_notes.is_empty() {
        writeln!(out)?;
        list(out, &view.contrast_notes)?;
    }
    writeln!(out, "\n## Cells")?;
    for section in &view.sections {
        cell(out, section)?;
    }
    writeln!(out, "\n## Environment")?;
    for part in &view.environment {
        writeln!(out, "\n### {}", plain(&part.title))?;
        facts(out, &part.facts)?;
        for list in &part.lists {
            table(out, list)?;
        }
    }
    writeln!(out, "\n## Plan")?;
    facts(out, &view.plan)?;
    writeln!(out, "- Command: {}", plain(&view.command))?;
    table(out, &view.cells)?;
    writeln!(out, "\n## What is not measured\n")?;
    list(out, &view.not_measured)
}

fn cell(out: &mut String, section: &Section) -> std::fmt::Result {
    writeln!(
        out,
        "\n### {}. {} ({})",
        section.number,
        plain(&section.label),
        plain(&section.reality)
    )?;
    facts(out, &section.what)?;
    facts_after(out, &section.beside)?;
    if let Some(why) = &section.nothing {
        writeln!(out, "\n{}", plain(why))?;
    }
    if !section.contradictions.is_empty() {
        writeln!(out, "\nThe placement was not held:\n")?;
        list(out, &section.contradictions)?;
    }
    for proof in &section.proof {
        table(out, proof)?;
    }
    if !section.rounds.rows.is_empty() {
        table(out, &section.rounds)?;
    }
    Ok(())
}

fn list(out: &mut String, items: &[String]) -> std::fmt::Result {
    items
        .iter()
        .try_for_each(|item| writeln!(out, "- {}", plain(item)))
}

fn facts(out: &mut String, facts: &[(impl AsRef<str>, String)]) -> std::fmt::Result {
    if !facts.is_empty() {
        writeln!(out)?;
    }
    facts_after(out, facts)
}

fn facts_after(out: &mut String, facts: &[(impl AsRef<str>, String)]) -> std::fmt::Result {
    facts
        .iter()
        .try_for_each(|(name, value)| writeln!(out, "- {}: {}", plain(name.as_ref()), plain(value)))
}

fn table(out: &mut String, table: &Table) -> std::fmt::Result {
    writeln!(out, "\n{}:\n", plain(&table.caption))?;
    for column in &table.columns {
        write!(out, "| {} ", plain(&column.name))?;
    }
    writeln!(out, "|")?;
    for column in &table.columns {
        write!(out, "{}", if column.numeric { "|---:" } else { "|---" })?;
    }
    writeln!(out, "|")?;
    for row in &table.rows {
        for entry in &row.entries {
            write!(out, "| {} ", plain(entry))?;
        }
        writeln!(out, "|")?;
    }
    Ok(())
}

/// Text on one line, with whatever Markdown or HTML would take for its own made plain (CommonMark 0.31 §2.4). A bracket
/// makes no link without a parenthesis behind it, so that the intervals stay readable in the source.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '<' | '>' | '|' | '&' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // Within a word an underscore emphasises nothing.
            '_' if !before.is_alphanumeric() => out.push_str("\\_"),
            '(' if before == ']' => out.push_str("\\("),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(
            plain("a|b <script> [x](y) `c`\n# _d_ io_uring [1, 2]"),
            r"a\|b \<script\> [x]\(y) \`c\` \# \_d_ io_uring [1, 2]"
        );
    }
}
