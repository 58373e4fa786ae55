//! The command. It resolves what was typed into cells and jobs, runs them, and prints what analysis makes of the records;
//! what is measured, and how, is the business of the rooms below.

#![forbid(unsafe_code)]

mod bind;
mod block;
mod built;
mod cli;
mod emulated;
mod generate;
mod host;
mod interrupt;
mod node;
mod nvme;
mod output;
mod peer;
mod plan;
mod precondition;
mod progress;
mod quick;
mod rdma;
mod report;
mod serve;
mod session;
mod shapes;
mod tcp;
mod topology;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// How the command ends, when it is not by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All was done.
    Done,
    /// Some of it failed; what did has been told.
    Failed,
    /// A check was not met.
    NotMet,
    /// The user stopped it; what was measured is kept.
    Interrupted,
}

/// A mistake in what was typed: exit code 2, where other errors have 1.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    /// The error of a mistake in what was typed.
    pub(crate) fn error(what: impl std::fmt::Display) -> anyhow::Error {
        anyhow::Error::new(Usage(what.to_string()))
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Command::Run(args) => quick::run(args),
        Command::Block(args) => block::run(args),
        Command::Nvme(args) => nvme::run(args),
        Command::Emu(args) => emulated::run(&args),
        Command::Tcp(args) => tcp::run(args),
        Command::Rdma(args) => rdma::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Bind(args) => bind::bind(&args),
        Command::Unbind(args) => bind::unbind(&args),
        Command::Restore(args) => bind::restore(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Topology(args) => topology::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(&folder),
        Command::Peer => serve::peer().map_err(anyhow::Error::new),
    };
    match ended {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::from(1),
        Ok(End::NotMet) => ExitCode::from(3),
        Ok(End::Interrupted) => ExitCode::from(interrupt::INTERRUPTED),
        // Whoever read our output has seen enough.
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::tell(&output::line(&e));
            ExitCode::from(if e.is::<Usage>() {
                2
            } else if interrupt::stopped(&e) {
                interrupt::INTERRUPTED
            } else {
                1
            })
        }
    }
}
