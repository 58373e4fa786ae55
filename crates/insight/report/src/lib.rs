//! Markdown, HTML and plots, rendered from analysis and from nothing else.
