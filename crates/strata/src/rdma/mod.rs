//! `strata rdma`: RDMA devices.

mod list;
mod wrong;

use anyhow::Result;

use crate::End;
use crate::cli::{RdmaArgs, RdmaCommand};

pub(crate) fn run(args: &RdmaArgs) -> Result<End> {
    match &args.command {
        RdmaCommand::List(args) => list::run(args),
    }
}
