//! Lists of namespaces and of their identifiers.

use proptest::prelude::*;
use strata_nvme_spec::NamespaceId;
use strata_nvme_spec::identify::{ActiveNamespaces, Descriptor, descriptors, write_descriptors};
use zerocopy::IntoBytes;

fn numbers(list: &ActiveNamespaces) -> Vec<u32> {
    list.iter().map(|nsid| nsid.0).collect()
}

#[test]
fn active_namespaces_come_in_pieces() {
    let active = || (1..=1500).map(NamespaceId);
    let first = ActiveNamespaces::after(NamespaceId::NONE, active());
    assert!(first.is_full());
    assert_eq!(&first.as_bytes()[..8], [1, 0, 0, 0, 2, 0, 0, 0]);
    let second = ActiveNamespaces::after(NamespaceId(1024), active());
    assert!(!second.is_full());
    let all: Vec<u32> = [numbers(&first), numbers(&second)].concat();
    assert_eq!(all, (1..=1500).collect::<Vec<_>>());
    let none = ActiveNamespaces::after(NamespaceId(1500), active());
    assert!(numbers(&none).is_empty());
}

#[test]
fn descriptors_are_laid_out_as_the_figure_says() {
    let list = [
        Descriptor::CommandSet(0),
        Descriptor::Eui64([1, 2, 3, 4, 5, 6, 7, 8]),
        Descriptor::Uuid([9; 16]),
    ];
    let bytes = write_descriptors(&list).expect("they fit");
    assert_eq!(bytes[..5], [4, 1, 0, 0, 0]);
    assert_eq!(bytes[5..17], [1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[17..21], [3, 16, 0, 0]);
    assert!(bytes[37..].iter().all(|byte| *byte == 0));
    assert_eq!(descriptors(&bytes).collect::<Vec<_>>(), list);
    // An EUI-64 of nine bytes is none.
    let odd = [1, 9, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5];
    assert_eq!(
        descriptors(&odd).collect::<Vec<_>>(),
        [Descriptor::Other(1, &[1; 9])]
    );
    assert_eq!(write_descriptors(&[Descriptor::Other(9, &[])]), None);
    assert_eq!(write_descriptors(&[Descriptor::Other(9, &[0; 256])]), None);
    assert_eq!(
        write_descriptors(&[Descriptor::Other(9, &[0; 255]); 16]),
        None
    );
    assert!(write_descriptors(&[Descriptor::Other(9, &[0; 252]); 16]).is_some());
}

proptest! {
    #[test]
    fn descriptors_go_and_come(
        uuid in any::<[u8; 16]>(), nguid in any::<[u8; 16]>(), set in any::<u8>(),
        kind in 5u8.., own in proptest::collection::vec(any::<u8>(), 1..256),
    ) {
        let list = [
            Descriptor::Uuid(uuid), Descriptor::Nguid(nguid), Descriptor::CommandSet(set), Descriptor::Other(kind, &own)
        ];
        let bytes = write_descriptors(&list).expect("they fit");
        prop_assert_eq!(descriptors(&bytes).collect::<Vec<_>>(), list);
    }

    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let count = descriptors(&bytes).count();
        prop_assert!(count * 5 <= bytes.len());
    }
}
