// The option table and its three sources: command line, environment, file.
#include "config/file.h"
#include "config/help.h"
#include "config/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define WORDS_MAX 32

// Settings from a command line written as one text, split at spaces ('~' stands for a space).
struct loaded {
    struct settings s;
    struct err e;
    int r;
    char text[512];
};

static struct loaded load(enum command command, const char *line)
{
    struct loaded l = {.e = {ERR_NONE, ""}};
    char *argv[WORDS_MAX] = {(char *)"rowcast"}, *save = NULL;
    int argc = 1;
    snprintf(l.text, sizeof l.text, "%s", line);
    for (char *w = strtok_r(l.text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        assert_true(argc < WORDS_MAX - 1);
        for (char *c = w; *c; c++)
            *c = *c == '~' ? ' ' : *c;
        argv[argc++] = w;
    }
    l.r = settings_load(&l.s, command, argc, argv, &l.e);
    for (size_t i = 0; i < strlen(line); i++) { // what argv looks like now
        if (!l.text[i])
            l.text[i] = ' ';
    }
    return l;
}

static void refused(enum command command, const char *line, const char *because)
{
    struct loaded l = load(command, line);
    if (l.r == 0)
        fail_msg("accepted: %s", line);
    assert_int_equal(l.e.class, ERR_USAGE);
    if (!strstr(l.e.text, because))
        fail_msg("%s: %s", line, l.e.text);
}

static void refused_text(const char *text, const char *because)
{
    struct settings s = {0};
    struct err e = {ERR_NONE, ""};
    if (config_text_load(&s, "f.conf", text, &e) == 0)
        fail_msg("accepted: %s", text);
    assert_int_equal(e.class, ERR_USAGE);
    if (!strstr(e.text, because))
        fail_msg("%s: %s", text, e.text);
    assert_null(strstr(e.text, "geheim"));
    settings_free(&s);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; // -1: none
    } sizes[] = {
        {"0", 0},
        {"4096", 4096},
        {"1B", 1},
        {"3kB", 3000},
        {"64MiB", 64 << 20},
        {"10 GiB", INT64_C(10) << 30},
        {"2TB", INT64_C(2000000000000)},
        {"8388607TiB", INT64_C(8388607) << 40},
        {"8388608TiB", -1},
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775808", -1},
        {"", -1},
        {"MiB", -1},
        {"1mib", -1},
        {"-1", -1},
        {"1.5GiB", -1},
        {"1GiB ", -1},
        {"1  GiB", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int64_t v = -1;
        assert_int_equal(bytes_parse(sizes[i].text, &v), sizes[i].bytes >= 0);
        assert_int_equal(v, sizes[i].bytes);
    }
}

static void test_durations(void **state)
{
    (void)state;
    int64_t us;
    assert_true(duration_parse("250ms", &us) && us == 250000);
    assert_true(duration_parse("5min", &us) && us == 300000000);
    assert_true(duration_parse("24h", &us) && us == INT64_C(86400000000));
    assert_true(duration_parse("7d", &us) && us == INT64_C(604800000000));
    assert_false(duration_parse("5", &us));
    assert_false(duration_parse("5m", &us));
    assert_false(duration_parse("h", &us));
    assert_false(duration_parse("1h30min", &us));
    assert_false(duration_parse("200000000000d", &us));
}

static void test_defaults(void **state)
{
    (void)state;
    struct loaded l = load(COMMAND_RUN, "--source dbname=x");
    assert_int_equal(l.r, 0);
    assert_string_equal(l.s.source, "dbname=x");
    assert_string_equal(l.s.slot, "rowcast");
    assert_int_equal(l.s.publications.n, 1);
    assert_int_equal(l.s.tables.n, 0);
    assert_int_equal(l.s.memory, 16 << 20);
    assert_int_equal(l.s.journal_age_us, 0);
    assert_int_equal(l.s.kafka_partitions, -1);
    assert_true(l.s.create);
    assert_false(l.s.messages);
    assert_false(l.s.std_out);
    assert_null(l.s.kafka);
    settings_free(&l.s);
}

static void test_command_line(void **state)
{
    (void)state;
    struct loaded l = load(COMMAND_RUN, "--source x --table a b.* --stdout --table=c --messages on "
                                        "--publication p,q --kafka-format json --compression -3");
    assert_int_equal(l.r, 0);
    assert_int_equal(l.s.tables.n, 3);
    assert_string_equal(l.s.tables.items[1], "b.*");
    assert_string_equal(l.s.tables.items[2], "c");
    assert_string_equal(l.s.publications.items[1], "q");
    assert_true(l.s.std_out && l.s.messages);
    assert_int_equal(l.s.kafka_format, KAFKA_JSON);
    assert_int_equal(l.s.compression, -3);
    settings_free(&l.s);

    l = load(COMMAND_TAIL, "--table a ws://h:1 --json --from earliest");
    assert_int_equal(l.r, 0);
    assert_int_equal(l.s.tables.n, 1);
    assert_int_equal(l.s.args.n, 1);
    assert_string_equal(l.s.args.items[0], "ws://h:1");
    settings_free(&l.s);

    l = load(COMMAND_JOURNAL, "dump --table a dir --from earliest");
    assert_int_equal(l.r, 0);
    assert_string_equal(l.s.args.items[1], "dir");
    settings_free(&l.s);

    l = load(COMMAND_RUN, "--memory nonsense --help"); // the first thing wrong still counts
    assert_int_equal(l.r, -1);
    l = load(COMMAND_RUN, "--help");
    assert_true(l.r == 0 && l.s.help);
    settings_free(&l.s);
}

static void test_command_line_refused(void **state)
{
    (void)state;
    refused(COMMAND_RUN, "--bogus=geheim", "--bogus: no such option");
    refused(COMMAND_RUN, "--json", "--json: no such option");
    refused(COMMAND_RUN, "--slot", "--slot: needs a value");
    refused(COMMAND_RUN, "--slot Big", "--slot: \"Big\"");
    refused(COMMAND_RUN, "--slot a --slot b", "given twice");
    refused(COMMAND_RUN, "--memory 3MiBs", "--memory: \"3MiBs\"");
    refused(COMMAND_RUN, "--memory 1KiB", "from 1MiB to 64GiB");
    refused(COMMAND_RUN, "--journal-age 1us", "or none");
    refused(COMMAND_RUN, "--messages maybe", "on or off");
    refused(COMMAND_RUN, "--kafka-format avro", "protobuf or json");
    refused(COMMAND_RUN, "--publication a,,b", "--publication: \"\"");
    refused(COMMAND_RUN, "--listen 7654", "ADDR:PORT");
    refused(COMMAND_RUN, "--listen ::1:7654", "[IPV6]:PORT");
    refused(COMMAND_RUN, "--listen h:70000", "ADDR:PORT");
    refused(COMMAND_RUN, "--kafka h:1,", "HOST:PORT");
    refused(COMMAND_RUN, "stray", "\"stray\" is not expected");
    refused(COMMAND_TAIL, "ws://a ws://b", "is not expected");
    refused(COMMAND_TAIL, "--from 12", "now, earliest or a cursor");
}

static void test_listen_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {"--listen 0.0.0.0:0", "--listen [::1]:7654", "--listen off",
                                       "--listen localhost:80", "--kafka a:1,b,c:65535"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct loaded l = load(COMMAND_RUN, good[i]);
        assert_int_equal(l.r, 0);
        settings_free(&l.s);
    }
}

static void test_secrets_do_not_show(void **state)
{
    (void)state;
    struct loaded l =
        load(COMMAND_RUN, "--source password=geheim --kafka-property sasl.password=geheim");
    assert_int_equal(l.r, 0);
    assert_string_equal(l.s.source, "password=geheim");
    assert_null(strstr(l.text, "geheim")); // ps
    settings_free(&l.s);

    l = load(COMMAND_RUN, "--source host=x password=geheim"); // forgotten quotes
    assert_int_equal(l.r, -1);
    assert_null(strstr(l.e.text, "geheim"));
    l = load(COMMAND_RUN, "postgres://u:geheim@h/d");
    assert_int_equal(l.r, -1);
    assert_null(strstr(l.e.text, "geheim"));
    l = load(COMMAND_RUN, "--kafka-property geheim");
    assert_int_equal(l.r, -1);
    assert_null(strstr(l.e.text, "geheim"));

    setenv("ROWCAST_SOURCE", "password=geheim", 1);
    l = load(COMMAND_RUN, "");
    assert_string_equal(l.s.source, "password=geheim");
    const char *left = getenv("ROWCAST_SOURCE");
    assert_true(left && !strstr(left, "geheim"));
    unsetenv("ROWCAST_SOURCE");
    settings_free(&l.s);
}

static void write_file(char path[32], const char *text)
{
    snprintf(path, 32, "/tmp/rowcast-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_precedence(void **state)
{
    (void)state;
    char path[32], line[128];
    write_file(path, "slot = file\nmemory = 2MiB\ntopic-prefix = \"file\"\n"
                     "table = {\"f1\", \"f2\"}\nmessages = on\nlisten = off");
    snprintf(line, sizeof line, "--slot line --config %s", path);
    setenv("ROWCAST_SLOT", "env", 1);
    setenv("ROWCAST_MEMORY", "3MiB", 1);
    setenv("ROWCAST_TABLE", "e1,public.\"e,2\"", 1);
    setenv("ROWCAST_STDOUT", "on", 1);
    setenv("ROWCAST_KAFKA", "", 1); // empty: not said
    struct loaded l = load(COMMAND_RUN, line);
    assert_int_equal(l.r, 0);
    assert_string_equal(l.s.slot, "line");
    assert_int_equal(l.s.memory, 3 << 20);
    assert_string_equal(l.s.topic_prefix, "file");
    assert_int_equal(l.s.tables.n, 2);
    assert_string_equal(l.s.tables.items[1], "public.\"e,2\"");
    assert_true(l.s.messages && l.s.std_out);
    assert_string_equal(l.s.listen, "off");
    settings_free(&l.s);

    setenv("ROWCAST_MEMORY", "much", 1);
    l = load(COMMAND_RUN, line);
    assert_int_equal(l.r, -1);
    assert_non_null(strstr(l.e.text, "ROWCAST_MEMORY: \"much\""));
    unsetenv("ROWCAST_SLOT");
    unsetenv("ROWCAST_MEMORY");
    unsetenv("ROWCAST_TABLE");
    unsetenv("ROWCAST_STDOUT");
    unsetenv("ROWCAST_KAFKA");
    unlink(path);
}

static void test_file_refused(void **state)
{
    (void)state;
    refused_text("slto = x", "f.conf:1: no such option 'slto'");
    refused_text("\n# c\nslot = a\n\nslot = b\n", "f.conf:5: \"slot\" was already set in line 3");
    refused_text("# c\n#c\nsource = 'a#\nb'#\n# d\nslto = x # e", "f.conf:6: no such option");
    refused_text("# c\nsource = postgres://geheim@h/d", "f.conf:2: // outside of quotes");
    refused_text("slot = a /* c */", "f.conf:1: /* outside");
    refused_text("table = {a}\ntable = {b}\n", "f.conf:2: \"table\" was already set in line 1");
    refused_text("table = {a}\ntable = {}\n", "f.conf:1: \"table\" is set again");
    refused_text("slot = a\nmemory = some\n", "f.conf:2: memory: \"some\" is not accepted");
    refused_text("config = x", "no such option 'config'");
    refused_text("from = now", "no such option 'from'");
    refused_text("slot", "f.conf:1");
    refused_text("slot = {a}", "f.conf:1");
    refused_text("slot = \"a", "premature end");
    refused_text("source = host=x password=geheim", "after \"source\"");
    refused_text("source = x geheim", "after \"source\"");
    refused_text("kafka-property = {\"a=b\"\n\"c=geheim\"}", "after \"kafka-property\"");
    refused_text("kafka-property = {geheim}", "not shown here");
}

static void test_file_limits(void **state)
{
    (void)state;
    struct settings s = {0};
    struct err e;
    char path[32];
    AUTO_BUF struct buf large = {0};
    for (size_t i = 0; i <= CONFIG_FILE_BYTES_MAX / 16; i++)
        buf_puts(&large, "################");
    write_file(path, buf_cstr(&large));
    assert_int_equal(config_file_load(&s, path, &e), -1);
    assert_non_null(strstr(e.text, "larger than"));
    unlink(path);
    assert_int_equal(config_file_load(&s, path, &e), -1);
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(config_file_load(&s, "/dev/zero", &e), -1);
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        char env[OPTION_ENV_MAX];
        assert_ptr_equal(option_find(o->name), o); // no name twice
        assert_true(strncmp(option_env(o, env), "ROWCAST_", 8) == 0);
        assert_true(o->value || o->type == OPTION_SWITCH);
        assert_true(o->type != OPTION_ENUM || o->choices);
        assert_true(o->help[strlen(o->help) - 1] == '.');
        assert_true(o->no_file || o->fallback || o->example ||
                    strcmp(o->name, "password-file") == 0);
    }
}

static void read_source(const char *name, struct buf *ret_text)
{
    const char *root = getenv("SOURCE_ROOT");
    assert_non_null(root);
    AUTO_FREE char *path = xasprintf("%s/%s", root, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    ret_text->n = fread(buf_room(ret_text, 1 << 20), 1, 1 << 20, f);
    fclose(f);
}

static void test_readme_has_options_and_exit_codes(void **state)
{
    (void)state;
    AUTO_BUF struct buf readme = {0};
    AUTO_BUF struct buf help = {0};
    read_source("README.md", &readme);
    help_markdown(&help);
    if (!strstr(buf_cstr(&readme), buf_cstr(&help)))
        fail_msg("its options are not what `rowcast help options` prints: write them again");
    for (int i = ERR_NONE; i <= ERR_INTERNAL; i++) {
        AUTO_FREE char *row = xasprintf("\n| %d | ", err_exit_code((enum err_class)i));
        if (!strstr(buf_cstr(&readme), row))
            fail_msg("no exit status %s", row + 1);
    }
    assert_non_null(strstr(buf_cstr(&readme), "\n| 130, 143 | ")); // pipeline.c: a second signal
}

static void test_example_file(void **state)
{
    (void)state;
    AUTO_BUF struct buf expected = {0};
    AUTO_BUF struct buf found = {0};
    help_example_file(&expected);
    read_source("examples/rowcast.conf", &found);
    if (strcmp(buf_cstr(&found), buf_cstr(&expected)) != 0)
        fail_msg("not what `rowcast help config` prints: write it again");
}

// With its options no longer commented out it says what the defaults say.
static void test_example_file_works(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = {0};
    help_example_file(&text);
    buf_cstr(&text);
    size_t switched_on = 0;
    for (char *at = (char *)text.p; at; at = strchr(at + 1, '\n')) {
        if (at[0] == '\n' && at[1] == '#' && at[2] >= 'a' && at[2] <= 'z') {
            at[1] = ' ';
            switched_on++;
        }
    }
    struct settings s = {0};
    struct err e;
    if (config_text_load(&s, "example", buf_cstr(&text), &e) != 0)
        fail_msg("%s", e.text);
    struct loaded l = load(COMMAND_RUN, "");
    size_t in_file = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        in_file += !o->no_file;
        const char *a = (char *)&s + o->field, *b = (char *)&l.s + o->field;
        if (o->no_file || !o->fallback)
            continue;
        if (o->type == OPTION_BYTES || o->type == OPTION_INTEGER || o->type == OPTION_DURATION)
            assert_int_equal(*(const int64_t *)a, *(const int64_t *)b);
        else if (o->type == OPTION_BOOLEAN || o->type == OPTION_SWITCH)
            assert_int_equal(*(const bool *)a, *(const bool *)b);
        else if (o->type == OPTION_STRING || o->type == OPTION_FILE)
            assert_string_equal(*(char *const *)a, *(char *const *)b);
    }
    assert_int_equal(switched_on, in_file);
    settings_free(&s);
    settings_free(&l.s);
}

static void test_help_has_every_option(void **state)
{
    (void)state;
    for (size_t c = 0; c < command_count; c++) {
        AUTO_BUF struct buf out = {0};
        help_command(&out, &commands[c]);
        for (size_t i = 0; i < option_count; i++) {
            AUTO_FREE char *name = xasprintf("\n  --%s", options[i].name);
            bool has = strstr(buf_cstr(&out), name) != NULL;
            if (options[i].commands & commands[c].id)
                assert_true(has);
        }
        for (char *line = buf_cstr(&out); *line;) { // it fits a terminal
            size_t n = strcspn(line, "\n");
            assert_true(n <= 100);
            line += n + (line[n] == '\n');
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_command_line_refused),
        cmocka_unit_test(test_listen_accepted),
        cmocka_unit_test(test_secrets_do_not_show),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_file_refused),
        cmocka_unit_test(test_file_limits),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_readme_has_options_and_exit_codes),
        cmocka_unit_test(test_example_file),
        cmocka_unit_test(test_example_file_works),
        cmocka_unit_test(test_help_has_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
