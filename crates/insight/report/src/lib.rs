//! Markdown, HTML and plots, rendered from `run.json`, the records and their analysis, and from nothing else.
//!
//! A report is read by someone who was not there: the answer comes first, then what to doubt, then the figures with
//! their intervals and the reality that they are of, and last everything that a figure stands on. Both forms are made of
//! one view, so that they say the same; the HTML is one file that loads nothing, and all text of records is escaped.

#![forbid(unsafe_code)]

mod environment;
mod host;
mod html;
mod markdown;
mod plot;
mod section;
mod table;
mod text;
mod view;

pub use html::{RenderError, html};
pub use markdown::markdown;
