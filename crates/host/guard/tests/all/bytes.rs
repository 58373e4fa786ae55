//! Crafted images against our eyes and libblkid's; and any bytes at all.

use proptest::prelude::*;
use strata_guard::{Ends, Kind, signatures};
use strata_units::Bytes;

use crate::crafted;
use crate::support::{agrees, blkid, names};

#[test]
fn each_crafted_image_is_recognised_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    for image in crafted::all() {
        image.write(&path);
        assert_eq!(names(&path), [image.name], "{:?}", image.parts);
    }
}

/// Where libblkid names a crafted image, it is the name that we give; of some it wants more fields than we do.
#[test]
fn crafted_images_agree_with_blkid() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    let mut agreed = 0;
    for image in crafted::all() {
        image.write(&path);
        let Some(told) = blkid(&path) else {
            println!("SKIP crafted_images_agree_with_blkid: there is no blkid");
            return;
        };
        for name in told {
            let ours = names(&path);
            assert!(agrees(&ours, &name), "blkid says {name}, we say {ours:?}");
            agreed += 1;
        }
    }
    assert!(
        agreed >= 20,
        "blkid named only {agreed} of the crafted images"
    );
}

#[test]
fn a_drive_of_blocks_of_4_kib_has_its_table_in_its_second_block() {
    let mut first = vec![0; 1 << 20];
    first[4096..4104].copy_from_slice(b"EFI PART");
    let ends = Ends {
        first: &first,
        last: &[],
        size: Bytes::GIB,
        logical_block: Bytes(4096),
    };
    let found = signatures(&ends);
    assert_eq!(
        (found.len(), found[0].name, found[0].kind),
        (1, "gpt", Kind::PartitionTable)
    );
    assert!(found[0].why.contains("damaged"), "{}", found[0]);
}

#[test]
fn a_signature_says_whose_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    let why = |image: &crafted::Image| {
        image.write(&path);
        let bytes = std::fs::read(&path).expect("an image");
        let ends = Ends {
            first: &bytes,
            last: &bytes,
            size: Bytes(crafted::SIZE),
            logical_block: Bytes(512),
        };
        signatures(&ends)[0].to_string()
    };
    assert!(why(&crafted::lustre()).contains("scratch-OST0007\": a Lustre target"));
    let blobs = crafted::all()
        .into_iter()
        .find(|image| image.name == "spdk_blobstore");
    assert!(why(&blobs.expect("a blobstore")).contains("LVOLSTORE"));
    let table = crafted::all().into_iter().find(|image| image.name == "gpt");
    assert!(why(&table.expect("a table")).contains("header, intact"));
}

#[test]
fn zeros_and_other_data_are_no_signature() {
    let zeros = vec![0; 1 << 20];
    let data: Vec<u8> = (0..1_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (bytes, zero) in [(&zeros, true), (&data, false)] {
        let ends = Ends {
            first: bytes,
            last: bytes,
            size: Bytes::GIB,
            logical_block: Bytes(512),
        };
        assert_eq!((signatures(&ends), ends.are_zero()), (Vec::new(), zero));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        first in proptest::collection::vec(any::<u8>(), 0..8192),
        last in proptest::collection::vec(any::<u8>(), 0..8192),
        size in prop_oneof![any::<u64>(), 0_u64..20_000, Just(u64::MAX)],
        block in prop_oneof![any::<u64>(), Just(0), Just(512), Just(4096)],
    ) {
        let ends = Ends { first: &first, last: &last, size: Bytes(size), logical_block: Bytes(block) };
        for found in signatures(&ends) {
            prop_assert!(found.at.0 < size, "{found} in {size} bytes");
        }
    }

    /// A signature survives whatever stands round it, cut off anywhere behind it.
    #[test]
    fn cut_images_do_not_panic(which in any::<prop::sample::Index>(), cut in 0_usize..70_000) {
        let images = crafted::all();
        let image = which.get(&images);
        let mut bytes = vec![0; 1 << 17];
        for (at, part) in &image.parts {
            let at = usize::try_from(*at).ok().filter(|at| at + part.len() <= bytes.len());
            if let Some(at) = at {
                bytes[at..at + part.len()].copy_from_slice(part);
            }
        }
        let ends = Ends { first: &bytes[..cut], last: &bytes[cut..], size: Bytes(1 << 17), logical_block: Bytes(512) };
        let whole = Ends { first: &bytes, last: &[], ..ends };
        // What the cut goes through is not read; all else is found as before.
        prop_assert!(signatures(&ends).len() <= signatures(&whole).len());
    }
}
