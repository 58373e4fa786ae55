//! `ring [ROUNDS]`: the bare limits.
use strata_benches::bare;
use strata_units::*;
fn main() {
    for d in [1, 32, 128] {
        for _ in 0..3 {
            println!("{d} {:?}", bare::ring(d, Nanos::SECOND, CpuId(1), CpuId(0)));
        }
    }
    println!(
        "{:?}",
        bare::copy(Bytes(4096), Bytes(256 << 20), 32, Nanos::SECOND, CpuId(0))
    );
}
