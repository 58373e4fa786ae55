//! What a namespace carries, by its first and last bytes.

use std::io;

use strata_guard::{Ends, FIRST, LAST, Signature, signatures};
use strata_units::{ByteOffset, Bytes};

use crate::{Blocking, LARGEST, Namespace};

/// The signatures of a namespace, read by our own driver.
pub(crate) fn signed(blocking: &mut Blocking, namespace: &Namespace) -> io::Result<Vec<Signature>> {
    let size = namespace.size;
    let block = namespace.block.0;
    let mut end = |from: Bytes, len: Bytes| {
        let mut bytes = vec![0; len.as_usize()];
        let mut at = from.0;
        for part in bytes.chunks_mut(LARGEST.as_usize()) {
            blocking.read(ByteOffset(at), part)?;
            at += part.len() as u64;
        }
        Ok::<_, io::Error>(bytes)
    };
    let whole = |len: Bytes| Bytes(len.0.min(size.0) / block * block);
    let first = end(Bytes(0), whole(FIRST))?;
    let last = end(Bytes(size.0 - whole(LAST).0), whole(LAST))?;
    Ok(signatures(&Ends {
        first: &first,
        last: &last,
        size,
        logical_block: namespace.block,
    }))
}
