#define _GNU_SOURCE
#include "cmd/shared/process/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/ranks.h"
#include "ivon/checkpoint.h"

/* Those of the kernel's header may be older than the kernel. */
static const uint64_t TRUNCATE = 1ULL << 14;
static const uint64_t ALL_OF_VERSION_1 = (1ULL << 13) - 1;
static const uint64_t READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t WRITE = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                              LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                              LANDLOCK_ACCESS_FS_REMOVE_DIR;

enum { FOLDERS_MAX = 64 };

struct rules {
    int descriptor;
    uint64_t handled;
    struct {
        dev_t device;
        ino_t inode;
        uint64_t access;
    } seen[FOLDERS_MAX]; /* so that many files in one folder make one rule */
    size_t seen_count;
};

/* Allows what `access` says beneath a path. What is not there, or cannot be looked at, needs no
   rule. */
static void allow(struct rules *rules, const char *path, uint64_t access)
{
    struct stat status;
    int folder = open(path, O_PATH | O_CLOEXEC);
    if (folder < 0)
        return;
    bool known = fstat(folder, &status) != 0;
    access &= rules->handled;
    if (!known && !S_ISDIR(status.st_mode))
        access &= READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE | TRUNCATE;
    if (!known && !S_ISDIR(status.st_mode))
        access &= ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR;
    for (size_t i = 0; i < rules->seen_count && !known; i++)
        known = rules->seen[i].device == status.st_dev && rules->seen[i].inode == status.st_ino &&
                (rules->seen[i].access & access) == access;
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = folder};
    if (!known)
        syscall(SYS_landlock_add_rule, rules->descriptor, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    if (!known && rules->seen_count < FOLDERS_MAX) {
        rules->seen[rules->seen_count].device = status.st_dev;
        rules->seen[rules->seen_count].inode = status.st_ino;
        rules->seen[rules->seen_count++].access = access;
    }
    close(folder);
}

/* The folder that a path lies in; "a/b/" lies in "a". */
static void allow_around(struct rules *rules, const char *path, uint64_t access)
{
    char folder[PATH_MAX];
    size_t length = strlen(path);
    if (!length || length >= sizeof folder)
        return;
    memcpy(folder, path, length + 1);
    while (length > 1 && folder[length - 1] == '/')
        folder[--length] = '\0';
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    allow(rules, folder, access);
}

/* The folders that links in a folder lead to, and those in folders `depth` steps below it. */
static void allow_links(struct rules *rules, const char *folder, int depth)
{
    char path[PATH_MAX], target[PATH_MAX];
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (*entry->d_name == '.' || length <= 0 || (size_t)length >= sizeof path)
            continue;
        if (entry->d_type == DT_LNK && realpath(path, target))
            allow_around(rules, target, READ);
        if (depth && (entry->d_type == DT_LNK || entry->d_type == DT_DIR))
            allow_links(rules, path, depth - 1);
    }
    if (directory)
        closedir(directory);
}

/* The folder of an output, and the output itself where it is a folder or is there already. A mark
   for a number, and what follows, is of a name in that folder. */
static void allow_output(struct rules *rules, const char *output, bool links)
{
    uint64_t access = READ | WRITE | TRUNCATE | (links ? LANDLOCK_ACCESS_FS_MAKE_SYM : 0);
    char *before = xstrndup(output, strcspn(output, "%"));
    allow_around(rules, *before ? before : ".", access);
    allow(rules, before, access);
    free(before);
}

/* Allows reading in the folders that a file name, without a ":/dataset" behind it, leads to. */
static void allow_input(struct rules *rules, const char *name)
{
    struct stat status;
    char target[PATH_MAX];
    if (stat(name, &status))
        return;
    if (S_ISDIR(status.st_mode)) {
        allow(rules, name, READ);
        allow_links(rules, name, 1); /* images of a class may be links */
        return;
    }
    allow_around(rules, name, READ);
    if (realpath(name, target)) /* which takes more rights than opening does */
        allow_around(rules, target, READ);
    const char *beside = strrchr(name, '/');
    if (!ivon_checkpoint_has_shards(name))
        return;
    if (beside && (size_t)(beside - name) < sizeof target) {
        memcpy(target, name, (size_t)(beside - name) + 1);
        target[beside - name + 1] = '\0';
    } else {
        strcpy(target, ".");
    }
    allow_links(rules, target, 0);
}

/* An argument may be "FILE", "--option=FILE", "-oFILE", "FILE:/dataset", "FILE,scale=2". */
static void allow_argument(struct rules *rules, const char *argument)
{
    char name[PATH_MAX];
    size_t length = strlen(argument);
    const char *value = strchr(argument, '=');
    const char *starts[] = {argument, value ? value + 1 : NULL,
                            argument[0] == '-' && length > 2 ? argument + 2 : NULL};
    if (length >= sizeof name)
        return;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        if (!starts[i] || !*starts[i])
            continue;
        for (size_t size = strlen(starts[i]); size; size--) {
            if (starts[i][size] && !strchr(":,=", starts[i][size]))
                continue;
            memcpy(name, starts[i], size);
            name[size] = '\0';
            allow_input(rules, name);
        }
    }
    for (const char *part = argument; (part = strchr(part, ',')); part++) /* "FILE,hessian=FILE" */
        if ((value = strchr(part, '=')))
            allow_input(rules, value + 1);
}

/* LeakSanitizer looks into all threads, those too that ran before and are not confined, which who
   is confined may not. */
#ifdef __SANITIZE_ADDRESS__
enum { CONFINE_FILES = 0 };
#else
enum { CONFINE_FILES = 1 };
#endif

static void confine_files(const struct confinement *confinement, int argc, char **argv)
{
    static const char *const system[] = {"/proc", "/sys",   "/dev", "/etc", "/usr",
                                         "/lib",  "/lib64", "/nix", "/gnu", "/opt"};
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct rules rules = {.handled = ALL_OF_VERSION_1 | (version >= 3 ? TRUNCATE : 0)};
    struct landlock_ruleset_attr all = {.handled_access_fs = rules.handled};
    if (version < 1)
        return;
    rules.descriptor = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules.descriptor < 0)
        return;
    for (size_t i = 0; i < sizeof system / sizeof system[0]; i++)
        allow(&rules, system[i], READ);
    allow(&rules, "/dev", READ | LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE);
    if (ranks_joined()) /* shared memory of MPI */
        allow(&rules, "/dev/shm", READ | WRITE | TRUNCATE);
    if (confinement->programs)
        allow(&rules, "/", READ | LANDLOCK_ACCESS_FS_EXECUTE);
    for (int i = 1; i < argc; i++)
        allow_argument(&rules, argv[i]);
    for (size_t i = 0; i < confinement->output_count; i++) {
        const char *output = confinement->outputs[i];
        if (output && strcmp(output, "-") != 0)
            allow_output(&rules, output, confinement->links);
    }
    syscall(SYS_landlock_restrict_self, rules.descriptor, 0);
    close(rules.descriptor);
}

/* In all threads: that of the linear algebra run already. */
static void confine_calls(const struct confinement *confinement)
{
    static const int domains[] = {AF_INET, AF_INET6, AF_PACKET, AF_NETLINK, AF_VSOCK};
    static const int others[] = {SCMP_SYS(execve), SCMP_SYS(execveat)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return;
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < sizeof domains / sizeof domains[0] && !ranks_joined(); i++)
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1,
                         SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domains[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0] && !confinement->programs; i++)
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), others[i], 0);
    seccomp_load(filter);
    seccomp_release(filter);
}

/* A build that measures coverage writes counts to files that the command does not know of. */
extern void __gcov_dump(void) __attribute__((weak));

void confine(const struct confinement *confinement, int argc, char **argv)
{
    if (confinement->off || __gcov_dump || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return;
    if (CONFINE_FILES)
        confine_files(confinement, argc, argv);
    confine_calls(confinement);
}
