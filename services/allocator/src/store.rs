//! Keys of the allocator: none.
//!
//! What must survive (admitted agents, framework records) belongs to the registry, which one service writes
//! (DESIGN rule 1). Offers and tasks live in the leader's memory and are learnt again from agents and frameworks
//! after a fail-over. The keys `leaders/allocator` and `services/allocator/<instance>` are written by the mesh.
