//! A table, whatever it is rendered as.

/// A table of texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// What it shows; also its name for those who hear it read.
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

/// A column's heading and whether its entries are figures.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) numeric: bool,
}

/// A row; its first entry is its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// The section that tells more, by number of the cell.
    pub(crate) link: Option<usize>,
    /// Whether it stands for what does not count.
    pub(crate) left_out: bool,
    pub(crate) entries: Vec<String>,
}

impl Row {
    /// The entries, each with whether it is a figure; figures are broken before their interval and nowhere else.
    pub(crate) fn shown(&self, columns: &[Column]) -> Vec<(bool, String)> {
        self.entries
            .iter()
            .zip(columns)
            .map(|(entry, column)| {
                let text = match entry.split_once(" [") {
                    _ if !column.numeric => entry.clone(),
                    Some((figure, interval)) => format!("{} [{}", tie(figure), tie(interval)),
                    None => tie(entry),
                };
                (column.numeric, text)
            })
            .collect()
    }
}

fn tie(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

impl Table {
    /// A table without rows; a column whose name begins with `#` holds figures.
    pub(crate) fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            columns: columns
                .iter()
                .map(|name| Column {
                    name: name.trim_start_matches('#').to_owned(),
                    numeric: name.starts_with('#'),
                })
                .collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, entries: Vec<String>) {
        self.rows.push(Row {
            entries,
            ..Row::default()
        });
    }
}
