/* Tells sizes and offsets of what is declared in sys.rs, as the headers have them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <spdk/stdinc.h>
#include <spdk/env.h>
#include <spdk/log.h>
#include <spdk/nvme.h>
#include <spdk/version.h>

#define SIZE(name, type) printf("%s_size %zu\n", name, sizeof(type))
#define AT(name, type, member) printf("%s_%s %zu\n", name, #member, offsetof(type, member))

/* A call with another prototype than the declared one does not compile. */
#define CALL(name, type) \
	_Static_assert(__builtin_types_compatible_p(__typeof__(&name), __typeof__(type)), "another " #name)

typedef struct spdk_nvme_ctrlr *ctrlr;
typedef struct spdk_nvme_ns *ns;
typedef struct spdk_nvme_qpair *qpair;

CALL(spdk_nvme_connect, ctrlr (*)(const struct spdk_nvme_transport_id *, const struct spdk_nvme_ctrlr_opts *, size_t));
CALL(spdk_nvme_transport_id_parse, int (*)(struct spdk_nvme_transport_id *, const char *));
CALL(spdk_nvme_detach, int (*)(ctrlr));
CALL(spdk_nvme_ctrlr_reset, int (*)(ctrlr));
CALL(spdk_nvme_ctrlr_process_admin_completions, int32_t (*)(ctrlr));
CALL(spdk_nvme_ctrlr_is_failed, bool (*)(ctrlr));
CALL(spdk_nvme_ctrlr_get_regs_cap, union spdk_nvme_cap_register (*)(ctrlr));
CALL(spdk_nvme_ctrlr_get_data, const struct spdk_nvme_ctrlr_data *(*)(ctrlr));
CALL(spdk_nvme_ctrlr_get_max_xfer_size, uint32_t (*)(const struct spdk_nvme_ctrlr *));
CALL(spdk_nvme_ctrlr_get_first_active_ns, uint32_t (*)(ctrlr));
CALL(spdk_nvme_ctrlr_get_next_active_ns, uint32_t (*)(ctrlr, uint32_t));
CALL(spdk_nvme_ctrlr_get_ns, ns (*)(ctrlr, uint32_t));
CALL(spdk_nvme_ns_get_data, const struct spdk_nvme_ns_data *(*)(ns));
CALL(spdk_nvme_ctrlr_get_default_io_qpair_opts, void (*)(ctrlr, struct spdk_nvme_io_qpair_opts *, size_t));
CALL(spdk_nvme_ctrlr_alloc_io_qpair, qpair (*)(ctrlr, const struct spdk_nvme_io_qpair_opts *, size_t));
CALL(spdk_nvme_ctrlr_free_io_qpair, int (*)(qpair));
CALL(spdk_nvme_qpair_process_completions, int32_t (*)(qpair, uint32_t));
CALL(spdk_nvme_ns_cmd_read, int (*)(ns, qpair, void *, uint64_t, uint32_t, spdk_nvme_cmd_cb, void *, uint32_t));
CALL(spdk_nvme_ns_cmd_write, int (*)(ns, qpair, void *, uint64_t, uint32_t, spdk_nvme_cmd_cb, void *, uint32_t));
CALL(spdk_nvme_ns_cmd_flush, int (*)(ns, qpair, spdk_nvme_cmd_cb, void *));
CALL(spdk_env_opts_init, void (*)(struct spdk_env_opts *));
CALL(spdk_env_init, int (*)(const struct spdk_env_opts *));
CALL(spdk_pci_addr_parse, int (*)(struct spdk_pci_addr *, const char *));
CALL(spdk_zmalloc, void *(*)(size_t, size_t, uint64_t *, int, uint32_t));
CALL(spdk_free, void (*)(void *));
/* The type of what is called has had two names. */
typedef void says(int level, const char *file, const int line, const char *func, const char *format, va_list args);
CALL(spdk_log_open, void (*)(says *));
_Static_assert(__builtin_types_compatible_p(spdk_nvme_cmd_cb, void (*)(void *, const struct spdk_nvme_cpl *)),
	       "another spdk_nvme_cmd_cb");

int
main(void)
{
	printf("version_major %d\nversion_minor %d\nversion_patch %d\n", SPDK_VERSION_MAJOR, SPDK_VERSION_MINOR,
	       SPDK_VERSION_PATCH);
	SIZE("env_opts", struct spdk_env_opts);
	AT("env_opts", struct spdk_env_opts, name);
	AT("env_opts", struct spdk_env_opts, core_mask);
	AT("env_opts", struct spdk_env_opts, shm_id);
	AT("env_opts", struct spdk_env_opts, main_core);
	AT("env_opts", struct spdk_env_opts, mem_size);
	AT("env_opts", struct spdk_env_opts, no_pci);
	AT("env_opts", struct spdk_env_opts, num_pci_addr);
	AT("env_opts", struct spdk_env_opts, pci_allowed);
	AT("env_opts", struct spdk_env_opts, env_context);
#if SPDK_VERSION >= SPDK_VERSION_NUM(23, 1, 0)
	AT("env_opts", struct spdk_env_opts, vf_token);
#endif
	printf("vf_token %d\n", SPDK_VERSION >= SPDK_VERSION_NUM(23, 1, 0));
	printf("lcore_map %d\n", SPDK_VERSION >= SPDK_VERSION_NUM(23, 5, 0));
#if SPDK_VERSION >= SPDK_VERSION_NUM(24, 1, 0)
	AT("env_opts", struct spdk_env_opts, no_huge);
#endif
	printf("no_huge %d\n", SPDK_VERSION >= SPDK_VERSION_NUM(24, 1, 0));
	printf("opts_size %d\n", SPDK_VERSION >= SPDK_VERSION_NUM(24, 9, 0));
#if SPDK_VERSION >= SPDK_VERSION_NUM(24, 9, 0)
	printf("opts_size_at %zu\n", offsetof(struct spdk_env_opts, opts_size));
#endif
	SIZE("transport_id", struct spdk_nvme_transport_id);
	AT("transport_id", struct spdk_nvme_transport_id, trtype);
	AT("transport_id", struct spdk_nvme_transport_id, traddr);
	AT("transport_id", struct spdk_nvme_transport_id, subnqn);
	SIZE("qpair_opts", struct spdk_nvme_io_qpair_opts);
	AT("qpair_opts", struct spdk_nvme_io_qpair_opts, io_queue_size);
	AT("qpair_opts", struct spdk_nvme_io_qpair_opts, io_queue_requests);
	AT("qpair_opts", struct spdk_nvme_io_qpair_opts, delay_cmd_submit);
	SIZE("pci_addr", struct spdk_pci_addr);
	SIZE("cpl", struct spdk_nvme_cpl);
	AT("cpl", struct spdk_nvme_cpl, status);
	SIZE("cap", union spdk_nvme_cap_register);
	SIZE("ctrlr_data", struct spdk_nvme_ctrlr_data);
	SIZE("ns_data", struct spdk_nvme_ns_data);
	printf("malloc_dma %d\n", SPDK_MALLOC_DMA);
#ifdef SPDK_ENV_NUMA_ID_ANY
	printf("any_node_is_minus_one %d\n", SPDK_ENV_NUMA_ID_ANY == -1);
#else
	printf("any_node_is_minus_one %d\n", SPDK_ENV_SOCKET_ID_ANY == -1);
#endif
	return 0;
}
