// What can be chosen and tuned.
#include "runtime/choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/options.h"

namespace stoker {
namespace {

TEST(PolicyChoices, EachOneIsValid) {
  for (const std::string& name : PolicyChoices()) {
    EngineOptions options;
    options.model_path = "-";
    options.policy = name;
    options.vram_policy = name;
    EXPECT_TRUE(Validate(options).ok()) << name << ": " << Validate(options);
  }
}

TEST(PredictorChoices, EachOneIsValid) {
  for (const std::string& name : PredictorChoices()) {
    EngineOptions options;
    options.model_path = "-";
    options.prefetch = name;
    EXPECT_TRUE(Validate(options).ok()) << name << ": " << Validate(options);
  }
}

TEST(AdmissionChoices, EachOneIsValid) {
  for (const std::string& name : AdmissionChoices()) {
    EngineOptions options;
    options.model_path = "-";
    options.admission = name;
    EXPECT_TRUE(Validate(options).ok()) << name << ": " << Validate(options);
  }
}

TEST(TunableRows, NamesAreDistinctAndRangesHoldTheDefaults) {
  std::vector<std::string> names;
  for (const TunableRow& row : TunableRows()) {
    names.emplace_back(row.name);
    for (const ParameterRow& parameter : row.parameters) {
      EXPECT_GE(parameter.value, parameter.minimum) << row.name << "." << parameter.name;
      EXPECT_LE(parameter.value, parameter.maximum) << row.name << "." << parameter.name;
      EXPECT_FALSE(parameter.reason.empty()) << row.name << "." << parameter.name;
    }
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace stoker
