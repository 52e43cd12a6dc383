// The files of the page, embedded at build time (runtime/report/embed.cmake).
#pragma once

#include <string_view>

namespace stoker {

std::string_view PageSkeleton();  // page.html
std::string_view PageStyle();     // page.css
std::string_view PageScript();    // page.js

}  // namespace stoker
