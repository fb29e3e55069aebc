"""Work on foreign data in a process of its own, with limits of time and memory: its death is one line, not ours."""
