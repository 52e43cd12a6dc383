// What stoker bench --links found, as markdown, CSV or JSON.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/link_survey.h"

namespace stoker {

using LinkFormat = std::string (*)(const LinkSurvey& survey);
// The names of FindBenchFormat, and its error.
absl::StatusOr<LinkFormat> FindLinkFormat(std::string_view name);

}  // namespace stoker
