// Package fail marks the points at which tests let the process die or stand still. A point costs nothing and
// does nothing, unless the program is built with the tag chaos: then GANTRY_FAIL says what happens where, as in
// after_intent:kill:3,before_manifest:stop:1, the number being which pass of the point it is. GANTRY_FAIL_HITS
// names a file to which each point that is passed for the first time adds its name.
package fail
