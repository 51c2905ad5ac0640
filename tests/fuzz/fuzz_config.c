// The text of a configuration file, and the same text as the value of every option.
#include "config/file.h"
#include "config/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct settings s = {0};
    struct err e = {ERR_NONE, ""};
    if (config_text_load(&s, "fuzz.conf", text, &e) != 0)
        CHECK(e.class == ERR_USAGE && strncmp(e.text, "fuzz.conf:", 10) == 0);
    settings_free(&s);
    for (size_t i = 0; i < option_count; i++) {
        e.class = ERR_NONE;
        int r = options[i].type == OPTION_LIST ? value_set_list(&s, &options[i], text, "here", &e)
                                               : value_set(&s, &options[i], text, "here", &e);
        CHECK(r == 0 || e.class == ERR_USAGE);
    }
    settings_free(&s);
    return 0;
}
