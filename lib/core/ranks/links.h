/* The connections of a rank to those on other machines. */
#ifndef CORE_RANKS_LINKS_H
#define CORE_RANKS_LINKS_H

/*
 * Watches them from a thread of its own: where a machine does not answer for so many seconds, as it
 * is cut off or has lost its power, this process says so in a line and ends, and so the launcher
 * ends the others. TCP would wait for a quarter of an hour, and MPI may do so for ever. That a rank
 * computes, or is stopped, is no silence: its system answers. Called once, by a rank that joined.
 */
void links_watch(int rank, int seconds);

#endif
