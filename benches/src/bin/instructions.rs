//! `instructions operation|batch|native OPS`: runs the loop for so many operations and no more, to be counted by callgrind:
//! against an engine that does nothing, timed by operation or batch, or with our NVMe driver on an emulated controller in
//! another process, which is not counted and has always answered before it is looked for.

use std::process::ExitCode;

use strata_benches::emulated::{EMULATE, Emulated, Outcome, emulate};
use strata_record::TimedBy;
use strata_units::CpuId;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [EMULATE, folder, cpu, data] => emulate(folder, cpu, data),
        [by, ops] => match (by, ops.parse()) {
            ("operation", Ok(ops)) => told(strata_benches::harness(TimedBy::Operation, ops).ops()),
            ("batch", Ok(ops)) => told(strata_benches::harness(TimedBy::Batch, ops).ops()),
            ("native", Ok(ops)) => native(ops),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::from(1)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions operation|batch|native OPS");
    ExitCode::from(2)
}

fn told(ops: u64) -> Outcome<()> {
    println!("{ops}");
    Ok(())
}

fn native(ops: u64) -> Outcome<()> {
    let emulated = Emulated::start(CpuId(0), false)?;
    told(strata_benches::native(&emulated.target, ops)?.ops())
}
