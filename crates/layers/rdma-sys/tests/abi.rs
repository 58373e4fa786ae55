//! Sizes, offsets and numbers against those of the C compiler and rdma-core's headers, where both are installed, or where
//! STRATA_RDMA_INCLUDE names the folder of the headers.

use std::fs;
use std::mem::offset_of;
use std::process::Command;

use strata_rdma_sys::{cm::*, extended::*, verbs::*};

/// What newer versions add to: the library makes it, or is told how much of it there is (`comp_mask`).
const GROW: [&str; 5] = [
    "sizeof(struct ibv_cq_ex)",
    "sizeof(struct ibv_cq_init_attr_ex)",
    "sizeof(struct ibv_qp_ex)",
    "sizeof(struct ibv_qp_init_attr_ex)",
    "sizeof(struct verbs_context)",
];

/// What C calls a thing, and what we have for it.
type Told = Vec<(String, i64)>;

macro_rules! layouts {
    ($told:ident: $($kind:tt $name:ident { $($field:ident $(as $theirs:ident)?),* $(,)? })*) => {$(
        let name = concat!(stringify!($kind), " ", stringify!($name));
        $told.push((format!("sizeof({name})"), size_of::<$name>() as i64));
        $told.push((format!("_Alignof({name})"), align_of::<$name>() as i64));
        $({
            let field = stringify!($field);
            $(let field = { let _ours = field; stringify!($theirs) };)?
            let ours = offset_of!($name, $field) as i64;
            $told.push(match name {
                // It grows at its beginning.
                "struct verbs_context" => (
                    format!("sizeof({name}) - offsetof({name}, {field})"),
                    size_of::<$name>() as i64 - ours,
                ),
                _ => (format!("offsetof({name}, {field})"), ours),
            });
        })*
    )*};
}

macro_rules! numbers {
    ($told:ident: $($name:ident)*) => {$(
        #[allow(clippy::unnecessary_cast, reason = "some are wider")]
        $told.push((stringify!($name).to_owned(), $name as i64));
    )*};
}

fn ours() -> Told {
    let mut told = Told::new();
    layouts! { told:
        union ibv_gid { raw }
        struct ibv_gid_entry { gid, gid_index, port_num, gid_type, ndev_ifindex }
        struct ibv_device { node_type, transport_type, name, dev_name, dev_path, ibdev_path }
        struct ibv_device_attr { fw_ver, node_guid, sys_image_guid, max_mr_size, page_size_cap, vendor_id, vendor_part_id, hw_ver, max_qp, max_qp_wr, device_cap_flags, max_sge, max_sge_rd, max_cq, max_cqe, max_mr, max_pd, max_qp_rd_atom, max_ee_rd_atom, max_res_rd_atom, max_qp_init_rd_atom, max_ee_init_rd_atom, atomic_cap, max_ee, max_rdd, max_mw, max_raw_ipv6_qp, max_raw_ethy_qp, max_mcast_grp, max_mcast_qp_attach, max_total_mcast_qp_attach, max_ah, max_fmr, max_map_per_fmr, max_srq, max_srq_wr, max_srq_sge, max_pkeys, local_ca_ack_delay, phys_port_cnt }
        struct ibv_port_attr { state, max_mtu, active_mtu, gid_tbl_len, port_cap_flags, max_msg_sz, bad_pkey_cntr, qkey_viol_cntr, pkey_tbl_len, lid, sm_lid, lmc, max_vl_num, sm_sl, subnet_timeout, init_type_reply, active_width, active_speed, phys_state, link_layer, flags, port_cap_flags2 }
        struct ibv_async_event { element, event_type }
        struct ibv_wc { wr_id, status, opcode, vendor_err, byte_len, imm_data, qp_num, src_qp, wc_flags, pkey_index, slid, sl, dlid_path_bits }
        struct ibv_pd { context, handle }
        struct ibv_mr { context, pd, addr, length, handle, lkey, rkey }
        struct ibv_ah { context, pd, handle }
        struct ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class }
        struct ibv_grh { version_tclass_flow, paylen, next_hdr, hop_limit, sgid, dgid }
        struct ibv_ah_attr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num }
        struct ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data }
        struct ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
        struct ibv_qp_attr { qp_state, cur_qp_state, path_mtu, path_mig_state, qkey, rq_psn, sq_psn, dest_qp_num, qp_access_flags, cap, ah_attr, alt_ah_attr, pkey_index, alt_pkey_index, en_sqd_async_notify, sq_draining, max_rd_atomic, max_dest_rd_atomic, min_rnr_timer, port_num, timeout, retry_cnt, rnr_retry, alt_port_num, alt_timeout, rate_limit }
        struct ibv_sge { addr, length, lkey }
        struct ibv_send_wr { wr_id, next, sg_list, num_sge, opcode, send_flags, imm_data, wr, qp_type, bind_mw }
        struct ibv_recv_wr { wr_id, next, sg_list, num_sge }
        struct ibv_comp_channel { context, fd, refcnt }
        struct ibv_cq { context, channel, cq_context, handle, cqe }
        struct ibv_qp { context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num, state, qp_type }
        struct ibv_context_ops { poll_cq, req_notify_cq, post_send, post_recv }
        struct ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors, abi_compat }
        struct ibv_cq_init_attr_ex { cqe, cq_context, channel, comp_vector, wc_flags, comp_mask, flags, parent_domain }
        struct ibv_poll_cq_attr { comp_mask }
        struct ibv_cq_ex { context, channel, cq_context, handle, cqe, comp_mask, status, wr_id, start_poll, next_poll, end_poll, read_opcode, read_vendor_err, read_byte_len, read_imm_data, read_qp_num, read_src_qp, read_wc_flags, read_completion_ts }
        struct ibv_qp_init_attr_ex { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all, comp_mask, pd, xrcd, create_flags, max_tso_header, rwq_ind_tbl, rx_hash_conf, source_qpn, send_ops_flags }
        struct ibv_qp_ex { qp_base, comp_mask, wr_id, wr_flags, wr_atomic_fetch_add, wr_rdma_read, wr_rdma_write, wr_rdma_write_imm, wr_send, wr_send_imm, wr_set_ud_addr, wr_set_inline_data, wr_set_sge, wr_set_sge_list, wr_start, wr_complete, wr_abort }
        struct verbs_context { query_port, create_cq_ex, create_qp_ex, sz, context }
        struct rdma_event_channel { fd }
        struct rdma_ib_addr { sgid, dgid, pkey }
        struct rdma_addr { src as src_addr, dst as dst_addr, addr }
        struct rdma_route { addr, path_rec, num_paths }
        struct rdma_cm_id { verbs, channel, context, qp, route, ps, port_num, event, send_cq_channel, send_cq, recv_cq_channel, recv_cq, srq, pd, qp_type }
        struct rdma_conn_param { private_data, private_data_len, responder_resources, initiator_depth, flow_control, retry_count, rnr_retry_count, srq, qp_num }
        struct rdma_ud_param { private_data, private_data_len, ah_attr, qp_num, qkey }
        struct rdma_cm_event { id, listen_id, event, status, param }
    }
    numbers! { told:
        IBV_GID_TYPE_IB IBV_GID_TYPE_ROCE_V1 IBV_GID_TYPE_ROCE_V2 IBV_NODE_CA IBV_NODE_RNIC IBV_TRANSPORT_IB
        IBV_TRANSPORT_IWARP IBV_ATOMIC_NONE IBV_ATOMIC_HCA IBV_ATOMIC_GLOB IBV_MTU_256 IBV_MTU_512 IBV_MTU_1024
        IBV_MTU_2048 IBV_MTU_4096 IBV_PORT_NOP IBV_PORT_DOWN IBV_PORT_INIT IBV_PORT_ARMED IBV_PORT_ACTIVE
        IBV_PORT_ACTIVE_DEFER IBV_LINK_LAYER_UNSPECIFIED IBV_LINK_LAYER_INFINIBAND IBV_LINK_LAYER_ETHERNET
        IBV_EVENT_CQ_ERR IBV_EVENT_QP_FATAL IBV_EVENT_QP_REQ_ERR IBV_EVENT_QP_ACCESS_ERR IBV_EVENT_COMM_EST
        IBV_EVENT_DEVICE_FATAL IBV_EVENT_PORT_ACTIVE IBV_EVENT_PORT_ERR IBV_EVENT_LID_CHANGE IBV_EVENT_PKEY_CHANGE
        IBV_EVENT_SM_CHANGE IBV_EVENT_GID_CHANGE IBV_WC_SUCCESS IBV_WC_LOC_LEN_ERR IBV_WC_LOC_QP_OP_ERR
        IBV_WC_LOC_PROT_ERR IBV_WC_WR_FLUSH_ERR IBV_WC_MW_BIND_ERR IBV_WC_BAD_RESP_ERR IBV_WC_LOC_ACCESS_ERR
        IBV_WC_REM_INV_REQ_ERR IBV_WC_REM_ACCESS_ERR IBV_WC_REM_OP_ERR IBV_WC_RETRY_EXC_ERR IBV_WC_RNR_RETRY_EXC_ERR
        IBV_WC_REM_INV_RD_REQ_ERR IBV_WC_REM_ABORT_ERR IBV_WC_FATAL_ERR IBV_WC_RESP_TIMEOUT_ERR IBV_WC_GENERAL_ERR
        IBV_WC_SEND IBV_WC_RDMA_WRITE IBV_WC_RDMA_READ IBV_WC_COMP_SWAP IBV_WC_FETCH_ADD IBV_WC_RECV
        IBV_WC_RECV_RDMA_WITH_IMM IBV_WC_GRH IBV_WC_WITH_IMM IBV_ACCESS_LOCAL_WRITE IBV_ACCESS_REMOTE_WRITE
        IBV_ACCESS_REMOTE_READ IBV_ACCESS_REMOTE_ATOMIC IBV_ACCESS_ON_DEMAND IBV_ACCESS_HUGETLB
        IBV_ACCESS_RELAXED_ORDERING IBV_QPT_RC IBV_QPT_UC IBV_QPT_UD IBV_QP_STATE IBV_QP_ACCESS_FLAGS IBV_QP_PKEY_INDEX
        IBV_QP_PORT IBV_QP_QKEY IBV_QP_AV IBV_QP_PATH_MTU IBV_QP_TIMEOUT IBV_QP_RETRY_CNT IBV_QP_RNR_RETRY
        IBV_QP_RQ_PSN IBV_QP_MAX_QP_RD_ATOMIC IBV_QP_MIN_RNR_TIMER IBV_QP_SQ_PSN IBV_QP_MAX_DEST_RD_ATOMIC IBV_QP_CAP
        IBV_QP_DEST_QPN IBV_QPS_RESET IBV_QPS_INIT IBV_QPS_RTR IBV_QPS_RTS IBV_QPS_SQD IBV_QPS_SQE IBV_QPS_ERR
        IBV_WR_RDMA_WRITE IBV_WR_RDMA_WRITE_WITH_IMM IBV_WR_SEND IBV_WR_SEND_WITH_IMM IBV_WR_RDMA_READ
        IBV_WR_ATOMIC_CMP_AND_SWP IBV_WR_ATOMIC_FETCH_AND_ADD IBV_SEND_FENCE IBV_SEND_SIGNALED IBV_SEND_SOLICITED
        IBV_SEND_INLINE IBV_WC_EX_WITH_BYTE_LEN IBV_WC_EX_WITH_IMM IBV_WC_EX_WITH_QP_NUM IBV_WC_EX_WITH_SRC_QP
        IBV_WC_EX_WITH_COMPLETION_TIMESTAMP IBV_CQ_INIT_ATTR_MASK_FLAGS IBV_CREATE_CQ_ATTR_SINGLE_THREADED
        IBV_QP_INIT_ATTR_PD IBV_QP_INIT_ATTR_SEND_OPS_FLAGS IBV_QP_EX_WITH_RDMA_WRITE
        IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM IBV_QP_EX_WITH_SEND IBV_QP_EX_WITH_SEND_WITH_IMM IBV_QP_EX_WITH_RDMA_READ
        IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD RDMA_CM_EVENT_ADDR_RESOLVED RDMA_CM_EVENT_ADDR_ERROR
        RDMA_CM_EVENT_ROUTE_RESOLVED RDMA_CM_EVENT_ROUTE_ERROR RDMA_CM_EVENT_CONNECT_REQUEST
        RDMA_CM_EVENT_CONNECT_RESPONSE RDMA_CM_EVENT_CONNECT_ERROR RDMA_CM_EVENT_UNREACHABLE RDMA_CM_EVENT_REJECTED
        RDMA_CM_EVENT_ESTABLISHED RDMA_CM_EVENT_DISCONNECTED RDMA_CM_EVENT_DEVICE_REMOVAL RDMA_CM_EVENT_ADDR_CHANGE
        RDMA_CM_EVENT_TIMEWAIT_EXIT RDMA_PS_TCP RDMA_PS_UDP RDMA_OPTION_ID RDMA_OPTION_ID_TOS
    }
    told
}

/// A program that tells what the headers have of the same, a line each.
fn program(told: &Told) -> String {
    let lines: String = told
        .iter()
        .map(|(what, _)| format!("    printf(\"%lld\\n\", (long long)({what}));\n"))
        .collect();
    format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n#include <rdma/rdma_cma.h>\nint main(void) {{\n{lines}    return 0;\n}}\n"
    )
}

#[test]
fn sizes_offsets_and_numbers_are_those_of_the_headers() {
    const TEST: &str = "sizes_offsets_and_numbers_are_those_of_the_headers";
    let told = ours();
    let folder = tempfile::tempdir().expect("a folder");
    let (text, built) = (folder.path().join("abi.c"), folder.path().join("abi"));
    let mut compile = Command::new("cc");
    if let Some(headers) = std::env::var_os("STRATA_RDMA_INCLUDE") {
        compile.arg("-I").arg(headers);
    }
    fs::write(&text, program(&Told::new())).expect("written");
    let probed = compile.arg(&text).arg("-o").arg(&built).output();
    match probed {
        Err(why) => return println!("SKIP {TEST}: no C compiler: {why}"),
        Ok(ended) if !ended.status.success() => {
            return println!(
                "SKIP {TEST}: the headers of rdma-core are not installed (Debian: libibverbs-dev, librdmacm-dev)"
            );
        }
        Ok(_) => {}
    }
    fs::write(&text, program(&told)).expect("written");
    let compiled = compile.output().expect("it ran before");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let ran = Command::new(&built).output().expect("it was built");
    let theirs = String::from_utf8(ran.stdout).expect("numbers");
    let theirs: Vec<i64> = theirs
        .lines()
        .map(|n| n.parse().expect("a number"))
        .collect();
    assert_eq!(theirs.len(), told.len());
    let unlike: Vec<String> = told
        .iter()
        .zip(&theirs)
        .filter(
            |((what, ours), theirs)| match GROW.contains(&what.as_str()) {
                true => ours > *theirs,
                false => ours != *theirs,
            },
        )
        .map(|((what, ours), theirs)| format!("{what}: {ours} here, {theirs} in C"))
        .collect();
    assert!(unlike.is_empty(), "{unlike:#?}");
}
