//! Where a message goes: access, agent and session key, pairing.
