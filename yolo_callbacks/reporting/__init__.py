"""Reports a run elsewhere: event files, servers, messages, and the background queues that send them."""
