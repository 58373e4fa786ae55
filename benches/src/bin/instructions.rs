//! `instructions operation|batch OPS`: runs the loop for so many operations and no more, to be counted by callgrind.

use std::process::ExitCode;

use strata_record::TimedBy;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match arguments.as_slice() {
        [by, ops] => match (by.as_str(), ops.parse()) {
            ("operation", Ok(ops)) => Some((TimedBy::Operation, ops)),
            ("batch", Ok(ops)) => Some((TimedBy::Batch, ops)),
            _ => None,
        },
        _ => None,
    };
    let Some((timed_by, ops)) = asked else {
        eprintln!("usage: instructions operation|batch OPS");
        return ExitCode::from(2);
    };
    let tally = strata_benches::harness(timed_by, ops);
    println!("{}", tally.ops());
    ExitCode::SUCCESS
}
