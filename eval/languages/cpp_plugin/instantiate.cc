// A plugin of g++, for compiling a header: what the header's functions need of templates is instantiated where END is
// declared, and lies in the compiled header. Otherwise g++ does it again at the end of every program that includes it.
//
// Covers: versions of g++ that have these functions under these names (found with 12); others do not load it.
// Does not cover: g++'s own headers for plugins, which are a package of their own: what is used of them stands here.
#include <cstring>

union tree_node;
const char *decl_as_string(tree_node *declared, int flags);
void instantiate_pending_templates(int retries);

extern "C" {
int plugin_is_GPL_compatible;
int register_callback(const char *name, int event, void (*call)(void *, void *), void *);

static const int PLUGIN_FINISH_DECL = 4;

static void finished(void *declared, void *) {
    if (std::strstr(decl_as_string(static_cast<tree_node *>(declared), 0), END)) instantiate_pending_templates(0);
}

int plugin_init(void *, void *) {
    register_callback("instantiate", PLUGIN_FINISH_DECL, finished, nullptr);
    return 0;
}
}
