// What the page can do beyond being read: values under the pointer, and sound with a play head.
"use strict";
