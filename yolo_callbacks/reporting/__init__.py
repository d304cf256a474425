"""What tells others of a run: event files, servers, services, and the queues that training never waits for."""
