//! vfio-user: what a client asks, and what a server answers.

use strata_vfio_user::fuzz;

/// Whatever is asked, each reply is one, and the device is asked only for what it has.
pub(crate) fn serve(bytes: &[u8]) {
    assert!(
        fuzz::serve(bytes) <= bytes.len() / 16,
        "a request has a header"
    );
}

/// Whatever is answered, what is taken of it lies within the region that it is of.
pub(crate) fn answers(bytes: &[u8]) {
    assert!(fuzz::answers(bytes) <= bytes.len());
}
