//! What comes back from Azure or from the API server is late, broken or nonsense, or nothing comes: nobody panics, nobody
//! asks without end, the user reads what is wrong, and all is well again by itself.

mod azure;
mod bench;
mod bounds;
mod cluster;
mod entra;
mod fates;
mod graph;
