/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sink_ids.h: MESSAGE_ID of the journal's entries, one for each kind of event: `journalctl MESSAGE_ID=...`. Drawn at
 * random once; never to change, never to be used for another kind. They are in README.md, too.
 */
#ifndef SIPKEEP_SINK_IDS_H
#define SIPKEEP_SINK_IDS_H

#define SINK_ID_CONNECTED "404956ac8f8845e7af80b870275a311c"
#define SINK_ID_DISCONNECTED "20afb22c84f64ee38d350788feb863d3"
#define SINK_ID_DESTROYED "fe0ec2f97e714585b05a4c263187b9c0"
#define SINK_ID_REFUSED "a2c8f32bc8a34a9a8936f5dde7bff2d6"
#define SINK_ID_LISTENER_UP "04b0da2f78554e4d8893e99e5595066a"
#define SINK_ID_LISTENER_DOWN "6092a90c59f94d83b727c5037e8d47f5"
#define SINK_ID_FULL "76cdfc1d06014489b15dedfde557cd1b"
#define SINK_ID_MODE "334edc0cc50049a3bb105c98399a812f"
#define SINK_ID_STALE_CONTACT "1f9b23cbbe524913b9abb4e8ed05fad4"
#define SINK_ID_LOST "12683d8826204fd3b87e1e781332ce78"
#define SINK_ID_LISTENER_RESTART "96e9917011504714ba72c8f9cdcf80ea"
#define SINK_ID_WEDGED "749f80f61b7b4283bacac0dbe4b8c173"
#define SINK_ID_ACTION "d6429d7e1f7a4b12b6a3e7d58d174f90"

/* What the journal did not take for a while, told by the sink itself. */
#define SINK_ID_JOURNAL_LOST "06036cdfc0944978bf54f5430af33233"

#endif
