/* Opening, versions, transactions and loading of the account database: see db.h. */
#include "account/db_priv.h"

#include <assert.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/secret.h"

static const char *const statement_texts[DB_STATEMENT_COUNT] = {
#define DB_TEXT_(name, sql) [DB_##name] = (sql),
    DB_STATEMENTS(DB_TEXT_)};

/* address: every address that leads somewhere; account NULL: an alias. States are enum account_state: never renumber. */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE domain(name TEXT PRIMARY KEY, catch_all TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE account(id INTEGER PRIMARY KEY AUTOINCREMENT, state INTEGER NOT NULL, address TEXT NOT NULL,"
    " tenant INTEGER NOT NULL DEFAULT 0, quota INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " last_login_ms INTEGER NOT NULL DEFAULT 0, actor TEXT NOT NULL);"
    "CREATE TABLE credential(account INTEGER PRIMARY KEY REFERENCES account(id), encoded TEXT NOT NULL,"
    " version INTEGER NOT NULL, set_ms INTEGER NOT NULL);"
    "CREATE TABLE address(address TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES domain(name),"
    " account INTEGER UNIQUE REFERENCES account(id)) WITHOUT ROWID;"
    "CREATE INDEX address_domain ON address(domain);"
    "CREATE TABLE alias_target(alias TEXT NOT NULL REFERENCES address(address), target TEXT NOT NULL,"
    " PRIMARY KEY(alias,target)) WITHOUT ROWID;"
    "CREATE INDEX alias_target_target ON alias_target(target);"
    "CREATE TABLE outbox(seq INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);";

static int fail(const struct account_db *db, struct err *err)
{
    int code = sqlite3_extended_errcode(db->sql);
    switch (code & 0xff) {
    case SQLITE_NOMEM: return err_set(err, -ENOMEM, "out of memory");
    case SQLITE_FULL: return err_set(err, -ENOSPC, "%s: no space left on the disk", ACCOUNT_DB_FILE);
    case SQLITE_CONSTRAINT: return err_set(err, -EEXIST, "%s: %s", ACCOUNT_DB_FILE, sqlite3_errmsg(db->sql));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return err_set(err, ERR_CORRUPT, "%s is damaged: %s", ACCOUNT_DB_FILE, sqlite3_errmsg(db->sql));
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return err_set(err, -EBUSY, "%s is in use by another process", ACCOUNT_DB_FILE);
    default: return err_set(err, -EIO, "%s: %s (%d)", ACCOUNT_DB_FILE, sqlite3_errmsg(db->sql), code);
    }
}

static int exec(struct account_db *db, const char *sql, struct err *err)
{
    return sqlite3_exec(db->sql, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(db, err);
}

void db_bind(struct account_db *db, enum db_statement s, const char *kinds, ...)
{
    sqlite3_stmt *st = db->statements[s];
    va_list ap;
    va_start(ap, kinds);
    for (int i = 1; kinds[i - 1] != '\0'; i++) {
        struct slice v;
        int rc = SQLITE_MISUSE;
        switch (kinds[i - 1]) {
        case 't':
            v = va_arg(ap, struct slice);
            rc = sqlite3_bind_text64(st, i, v.n != 0 ? v.p : "", v.n, SQLITE_STATIC, SQLITE_UTF8);
            break;
        case 'b':
            v = va_arg(ap, struct slice);
            rc = sqlite3_bind_blob64(st, i, v.n != 0 ? v.p : "", v.n, SQLITE_STATIC);
            break;
        case 's': rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC); break;
        case 'u': rc = sqlite3_bind_int64(st, i, (int64_t)va_arg(ap, uint64_t)); break;
        case 'i': rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t)); break;
        default: break;
        }
        assert(rc == SQLITE_OK);
        (void)rc;
    }
    va_end(ap);
}

int db_step(struct account_db *db, enum db_statement s, struct err *err)
{
    int rc = sqlite3_step(db->statements[s]);
    if (rc == SQLITE_ROW)
        return 1;
    int ret = rc == SQLITE_DONE ? 0 : fail(db, err);
    db_reset(db, s);
    return ret;
}

int db_run(struct account_db *db, enum db_statement s, struct err *err)
{
    int rc = db_step(db, s, err);
    if (rc == 1)
        db_reset(db, s);
    return rc < 0 ? rc : 0;
}

uint64_t db_changes(const struct account_db *db)
{
    return (uint64_t)sqlite3_changes64(db->sql);
}

void db_reset(struct account_db *db, enum db_statement s)
{
    (void)sqlite3_reset(db->statements[s]);
    (void)sqlite3_clear_bindings(db->statements[s]);
}

uint64_t db_u64(struct account_db *db, enum db_statement s, int column)
{
    return (uint64_t)sqlite3_column_int64(db->statements[s], column);
}

struct slice db_text(struct account_db *db, enum db_statement s, int column)
{
    const void *p = sqlite3_column_blob(db->statements[s], column);
    int n = sqlite3_column_bytes(db->statements[s], column);
    return p != NULL && n > 0 ? slice_of(p, (size_t)n) : SLICE_EMPTY;
}

int db_begin(struct account_db *db, struct err *err)
{
    return db_run(db, DB_begin, err);
}

int db_end(struct account_db *db, int rc, struct slice event, struct err *err)
{
    if (rc == 0 && event.n != 0) {
        db_bind(db, DB_outbox_add, "b", event);
        rc = db_run(db, DB_outbox_add, err);
    }
    if (rc == 0)
        rc = db_run(db, DB_commit, err);
    if (rc != 0) {
        /* SQLite may have rolled back by itself after an I/O error. */
        if (sqlite3_get_autocommit(db->sql) == 0)
            (void)db_run(db, DB_rollback, NULL);
        return rc;
    }
    if (event.n != 0)
        atomic_fetch_add(&db->outbox_count, 1);
    return 0;
}

void *db_list_add(struct record_list *l, size_t max, size_t item_size, struct arena *arena)
{
    if (l->items == NULL)
        l->items = arena_array(arena, max, item_size);
    return l->items != NULL && l->n < max ? (char *)l->items + item_size * l->n++ : NULL;
}

static int query_u64(struct account_db *db, const char *sql, uint64_t *ret, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->sql, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = (uint64_t)sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    if (rc == SQLITE_ROW)
        return 0;
    return rc == SQLITE_DONE ? err_set(err, ERR_CORRUPT, "%s lacks what it must have", ACCOUNT_DB_FILE) : fail(db, err);
}

static int create_schema(struct account_db *db, struct err *err)
{
    char meta[200];
    uint64_t epoch = rand_u64() >> 1;
    (void)snprintf(meta, sizeof(meta), "INSERT INTO meta VALUES('features',%d),('outbox_epoch',%llu);PRAGMA user_version=%d;",
                   ACCOUNT_DB_FEATURES, (unsigned long long)epoch, ACCOUNT_DB_VERSION);
    int rc = exec(db, "BEGIN IMMEDIATE", err);
    if (rc == 0)
        rc = exec(db, schema, err);
    if (rc == 0)
        rc = exec(db, meta, err);
    return rc == 0 ? exec(db, "COMMIT", err) : rc;
}

static int check_version(struct account_db *db, struct err *err)
{
    uint64_t version, features;
    int rc = query_u64(db, "PRAGMA user_version", &version, err);
    if (rc == 0 && version == 0)
        rc = create_schema(db, err);
    if (rc == 0 && version > ACCOUNT_DB_VERSION)
        return err_set(err, ERR_VERSION, "%s has format %llu; this program knows up to %d: it was written by a newer version",
                       ACCOUNT_DB_FILE, (unsigned long long)version, ACCOUNT_DB_VERSION);
    if (rc == 0)
        rc = query_u64(db, "SELECT value FROM meta WHERE key='features'", &features, err);
    if (rc == 0 && (features & ~(uint64_t)ACCOUNT_DB_FEATURES) != 0)
        return err_set(err, ERR_VERSION, "%s uses features (%llx) of a newer version of this program", ACCOUNT_DB_FILE,
                       (unsigned long long)features);
    return rc == 0 ? query_u64(db, "SELECT value FROM meta WHERE key='outbox_epoch'", &db->epoch, err) : rc;
}

static int prepare_statements(struct account_db *db, struct err *err)
{
    for (unsigned i = 0; i < DB_STATEMENT_COUNT; i++)
        if (sqlite3_prepare_v3(db->sql, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[i], NULL) != SQLITE_OK)
            return fail(db, err);
    return 0;
}

/* Exclusive locking also keeps the index of the log in memory: no shared-memory file. Deleted rows are overwritten: they held hashes. */
static const char pragmas[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"
                              "PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;";

/* The default file system of the library, but names stay as they are given. The library would turn ours into the path behind the
 * descriptor, which this role's user may have no right to walk (a state directory below somebody's home). */
static int keep_name(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    (void)vfs;
    int n = snprintf(out, (size_t)size, "%s", name);
    return n >= 0 && n < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

#define VFS_NAME "kakitome-by-descriptor"
static bool register_vfs(void)
{
    static sqlite3_vfs vfs; /* the library keeps the pointer */
    sqlite3_vfs *usual = sqlite3_vfs_find(NULL);
    if (usual == NULL || sqlite3_vfs_find(VFS_NAME) != NULL)
        return usual != NULL;
    vfs = *usual;
    vfs.zName = VFS_NAME;
    vfs.xFullPathname = keep_name;
    return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK;
}

int account_db_open(int dir, struct account_db **ret, struct err *err)
{
    static const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW;
    struct account_db *db = calloc(1, sizeof(*db));
    char path[64];
    int rc = 0;
    if (db == NULL || !register_vfs()) {
        free(db);
        return err_set(err, -ENOMEM, "out of memory");
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, ACCOUNT_DB_FILE);
    if (sqlite3_open_v2(path, &db->sql, flags, VFS_NAME) != SQLITE_OK)
        rc = fail(db, err);
    uint64_t waiting = 0;
    if (rc == 0)
        rc = exec(db, pragmas, err);
    if (rc == 0)
        rc = check_version(db, err);
    if (rc == 0)
        rc = prepare_statements(db, err);
    if (rc == 0)
        rc = query_u64(db, "SELECT count(*) FROM outbox", &waiting, err);
    if (rc == 0)
        rc = id_register_open(dir, &db->ids, err);
    if (rc != 0) {
        account_db_close(db);
        return rc;
    }
    atomic_store(&db->outbox_count, waiting);
    *ret = db;
    return 0;
}

void account_db_close(struct account_db *db)
{
    if (db == NULL)
        return;
    for (unsigned i = 0; i < DB_STATEMENT_COUNT; i++)
        (void)sqlite3_finalize(db->statements[i]);
    (void)sqlite3_close(db->sql);
    id_register_close(db->ids);
    free(db);
}

static int load_account(struct account_db *db, struct directory *d)
{
    char address[IPC_ADDRESS_MAX + 1], credential[512];
    struct slice a = db_text(db, DB_load_accounts, 2), c = db_text(db, DB_load_accounts, 6);
    uint64_t state = db_u64(db, DB_load_accounts, 1);
    if (a.n >= sizeof(address) || c.n >= sizeof(credential) || state >= ACCOUNT_STATES)
        return ERR_CORRUPT;
    memcpy(address, a.p, a.n);
    address[a.n] = '\0';
    memcpy(credential, c.p, c.n);
    credential[c.n] = '\0';
    struct account v = {
        .id = db_u64(db, DB_load_accounts, 0),
        .state = (enum account_state)state,
        .address = address,
        .quota = db_u64(db, DB_load_accounts, 3),
        .created_ms = (int64_t)db_u64(db, DB_load_accounts, 4),
        .last_login_ms = (int64_t)db_u64(db, DB_load_accounts, 5),
        .credential = c.n != 0 ? credential : NULL,
        .credential_version = db_u64(db, DB_load_accounts, 7),
    };
    int rc = directory_set_account(d, &v);
    secret_wipe(credential, sizeof(credential));
    return rc;
}

static int load_domain(struct account_db *db, struct directory *d)
{
    return directory_set_domain(d, db_text(db, DB_load_domains, 0), db_text(db, DB_load_domains, 1));
}

static int load_alias(struct account_db *db, struct directory *d)
{
    return directory_add_alias(d, db_text(db, DB_load_aliases, 0), db_text(db, DB_load_aliases, 1));
}

int account_db_load(struct account_db *db, struct directory *d, struct err *err)
{
    static const struct {
        enum db_statement statement;
        int (*row)(struct account_db *db, struct directory *d);
    } tables[] = {{DB_load_domains, load_domain}, {DB_load_accounts, load_account}, {DB_load_aliases, load_alias}};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        int rc;
        while ((rc = db_step(db, tables[i].statement, err)) == 1) {
            rc = tables[i].row(db, d);
            if (rc != 0) {
                db_reset(db, tables[i].statement);
                return err_set(err, rc, "%s: %s", ACCOUNT_DB_FILE, err_name(rc));
            }
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}
