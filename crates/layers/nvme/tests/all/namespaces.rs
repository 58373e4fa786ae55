//! Namespaces, and those that cannot be used.

use strata_nvme::{NvmeError, Unusable};
use strata_nvme_spec::command::admin::{Cns, Identify};
use strata_nvme_spec::command::admin_opcode as opcode;
use strata_nvme_spec::identify::{ActiveNamespaces, Deallocated, IdentifyNamespace};
use strata_nvme_spec::{NamespaceId, Sqe, Status};
use strata_units::Bytes;
use zerocopy::IntoBytes;

use crate::answers::{Reply, namespace};
use crate::fake::Fake;
use crate::{open, refusal};

fn asks(sqe: &Sqe, cns: Cns) -> Option<Identify> {
    let identify = (sqe.opcode == opcode::IDENTIFY).then(|| Identify::of(sqe));
    identify?.ok().filter(|identify| identify.cns == cns)
}

fn found(change: impl Fn(&mut IdentifyNamespace)) -> Result<strata_nvme::Namespace, Unusable> {
    let fake = Fake::new();
    let controller = open(&fake);
    let mut answer = namespace();
    change(&mut answer);
    fake.answers(move |sqe| asks(sqe, Cns::Namespace).map(|_| Reply::data(answer.as_bytes())));
    controller.namespace(NamespaceId(1))
}

#[test]
fn a_namespace_says_what_it_is() {
    let fake = Fake::new();
    let controller = open(&fake);
    assert_eq!(controller.namespaces(), [NamespaceId(1)]);
    let namespace = controller.namespace(NamespaceId(1)).expect("usable");
    assert_eq!((namespace.block, namespace.blocks), (Bytes(512), 2048));
    assert_eq!(
        (namespace.size, namespace.used),
        (Bytes(1 << 20), Some(Bytes(4096)))
    );
    assert_eq!(
        (namespace.most, namespace.boundary),
        (Bytes(128 << 10), Some(Bytes(128 << 10)))
    );
    assert_eq!(namespace.deallocated, Deallocated::Zeroes);
    assert!(!namespace.write_protected);
    assert_eq!(
        namespace.identity.to_string(),
        "uuid.30313233-3435-3637-3839-616263646566"
    );
    // Without the list of identifiers there is what the namespace's own structure has.
    fake.answers(|sqe| asks(sqe, Cns::Descriptors).map(|_| Reply::bad(Status::INVALID_FIELD)));
    let namespace = controller.namespace(NamespaceId(1)).expect("usable");
    assert_eq!(namespace.identity.to_string(), "eui.0102030405060708");
}

#[test]
fn other_namespaces_are_read_as_they_are() {
    let protected = found(|namespace| {
        namespace.nsattr = 1;
        namespace.lbaf[0].lbads = 12;
        namespace.noiob = 0.into();
        namespace.nsfeat = 0;
        namespace.dlfeat = 0;
    });
    let protected = protected.expect("readable");
    assert!(protected.write_protected);
    assert_eq!(
        (protected.block, protected.size),
        (Bytes(4096), Bytes(8 << 20))
    );
    assert_eq!((protected.boundary, protected.used), (None, None));
    assert_eq!(protected.deallocated, Deallocated::NotReported);
}

#[test]
fn unusable_namespaces_say_why() {
    type Change = fn(&mut IdentifyNamespace);
    let table: [(Change, &str); 8] = [
        (
            |ns| ns.nsze = 0.into(),
            "is not active on a fake; its active ones are none",
        ),
        (
            |ns| ns.lbaf[0].ms = 8.into(),
            "has 8B of metadata with each block of 512B",
        ),
        (|ns| ns.dps = 3, "has protection information of type 3"),
        (
            |ns| ns.lbaf[0].lbads = 8,
            "has blocks of 2 to the power of 8 bytes",
        ),
        (
            |ns| ns.lbaf[0].lbads = 200,
            "has blocks of 2 to the power of 200 bytes",
        ),
        (|ns| ns.lbaf[0].lbads = 11, "has blocks of 2KiB, and"),
        (
            |ns| ns.flbas = 9,
            "has a format that it does not list (FLBAS 0x09)",
        ),
        (
            |ns| ns.nsze = u64::MAX.into(),
            "more bytes than 64 bits count",
        ),
    ];
    for (change, says) in table {
        let why = found(change).expect_err(says);
        assert!(why.to_string().contains(says), "{why}");
    }
    let fake = Fake::new();
    let controller = open(&fake);
    for id in [NamespaceId(2), NamespaceId::NONE, NamespaceId::ALL] {
        let why = controller.namespace(id).expect_err("there is one");
        assert!(matches!(why, Unusable::Inactive { .. }), "{why}");
        assert!(why.to_string().ends_with("its active ones are 1"), "{why}");
    }
    fake.answers(|sqe| asks(sqe, Cns::Namespace).map(|_| Reply::bad(Status::INVALID_NAMESPACE)));
    let why = controller.namespace(NamespaceId(1)).expect_err("refused");
    assert!(
        matches!(why, Unusable::Controller(NvmeError::Refused { .. })),
        "{why}"
    );
}

#[test]
fn lists_of_many_are_read_to_their_end() {
    let fake = Fake::new();
    fake.answers(|sqe| {
        asks(sqe, Cns::ActiveNamespaces).map(|identify| {
            let list =
                ActiveNamespaces::after(identify.nsid, (1..=1500).map(|n| NamespaceId(2 * n)));
            Reply::data(list.as_bytes())
        })
    });
    let controller = open(&fake);
    let all = controller.namespaces();
    assert_eq!((all.len(), all.last()), (1500, Some(&NamespaceId(3000))));
    let why = controller
        .namespace(NamespaceId(1))
        .expect_err("an odd one");
    assert!(why.to_string().ends_with("30, 32, …"), "{why}");
}

#[test]
fn lists_that_never_end_or_go_back_are_refused() {
    let fake = Fake::new();
    fake.answers(|sqe| {
        asks(sqe, Cns::ActiveNamespaces).map(|identify| {
            let from = identify.nsid.0 + 1;
            let list = ActiveNamespaces::after(NamespaceId::NONE, (from..).map(NamespaceId));
            Reply::data(list.as_bytes())
        })
    });
    let why = refusal(&fake);
    assert!(
        matches!(why, NvmeError::Limit { most: 65_536, .. }),
        "{why}"
    );
    fake.is_left_clean();
    for list in [[3, 2], [7, 7], [1, u32::MAX]] {
        let fake = Fake::new();
        fake.answers(move |sqe| {
            let mut bytes = [0; 4096];
            bytes[..4].copy_from_slice(&list[0].to_le_bytes());
            bytes[4..8].copy_from_slice(&list[1].to_le_bytes());
            asks(sqe, Cns::ActiveNamespaces).map(|_| Reply::data(&bytes))
        });
        let why = refusal(&fake);
        assert!(why.to_string().contains("the list has to ascend"), "{why}");
        fake.is_left_clean();
    }
}
