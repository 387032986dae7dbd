// Says so where the page does not start: a browser that cannot read its modules shows nothing else of it. Not a module,
// and in words that old browsers know.
"use strict";
addEventListener("load", function () {
  // The modules have run by now; a slow machine is given a moment more.
  setTimeout(function () {
    // Taken away by the page that has started.
    var notice = document.getElementById("too-old");
    if (notice) notice.hidden = false;
  }, 5000);
});
