//! Shell completions and manual pages, made from the command line's own definition.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::{End, output};

pub(crate) fn completions(shell: Shell) -> Result<End> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "strata", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(End::Done)
}

/// `strata.1` and one page a subcommand.
pub(crate) fn man(folder: &Path) -> Result<End> {
    let next = || {
        format!(
            "cannot write to {}; name a folder that you may write to",
            folder.display()
        )
    };
    fs::create_dir_all(folder).with_context(next)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(next)?;
    Ok(End::Done)
}
