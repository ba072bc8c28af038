"""No core dumps: the memory of a Weir holds keys and prompts, and a crash must not leave it in a file."""


def forbid() -> None:
    """From now on neither this process nor one that it starts leaves a core dump.

    A bound of one byte and not of none: then the kernel does not hand it to a program either, which it does
    whatever the bound is where `core_pattern` begins with `|` (fs/coredump.c).
    """
    try:
        import resource
    except ImportError:  # not on this system, which has no such files
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = 1 if hard == resource.RLIM_INFINITY else min(hard, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
