/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers apps/nbd host fake_arch */
/* A host that lies about a disk and a NIC while others are honest: each class of lies, by many seeds. */
#ifdef MALICE_ISOLATED
#include "tests/unit/isolated.h"
#endif
#include "tests/unit/malice_machine.h"

TEST(indices_of_rings) { lives(HOST_MALICE_RING, SEEDS, 20); }
TEST(frames_of_packets) { lives(HOST_MALICE_FRAME, SEEDS, 30); }
TEST(ids_unknown_early_and_twice) { lives(HOST_MALICE_ID, SEEDS, 4); }
TEST(ids_of_each_other) { lives(HOST_MALICE_SWAP, SEEDS, 4); }
TEST(answers_before_anything_was_done) { lives(HOST_MALICE_EARLY, SEEDS, 4); }
TEST(more_and_less_than_asked_for) { lives(HOST_MALICE_LENGTH, SEEDS, 4); }
TEST(failure_at_each_step) { lives(HOST_MALICE_STATUS, SEEDS, 6); }
TEST(absurd_handshakes) { lives(HOST_MALICE_HANDSHAKE, SEEDS, 4); }
TEST(absurd_offers) { lives(HOST_MALICE_OFFER, 4, 400); }
TEST(rescinds_at_each_edge) { lives(HOST_MALICE_RESCIND, SEEDS, 30); }
TEST(silence_at_each_step) { lives(HOST_MALICE_SILENCE, SEEDS, 12); }
TEST(messages_bent) { lives(HOST_MALICE_MESSAGE, SEEDS, 4); }
TEST(refusals) { lives(HOST_MALICE_REFUSE, SEEDS, 6); }
TEST(received_messages) { lives(HOST_MALICE_RNDIS, SEEDS, 3); }
TEST(storms) { lives(HOST_MALICE_STORM, SEEDS, 20); }
TEST(half_visible) { lives(HOST_MALICE_VISIBILITY | HOST_MALICE_SILENCE, SEEDS, 100); }
TEST(page_lists_of_others) { lives(HOST_MALICE_GPADL, SEEDS, 2); }
TEST(wrong_connections) { lives(HOST_MALICE_WIRING, SEEDS, 2); }
TEST(late_offers) { lives(HOST_MALICE_CONNECT, SEEDS, 1); }
TEST(everything_at_once) { lives(HOST_MALICE_ALL & ~HOST_MALICE_OFFER, SEEDS, 60); }

TEST_MAIN()
