// What a line of prompts may say, and how a wrong one is refused.
#include "cli/batch/batch_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/status.h"

namespace stoker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BatchRequest ParseOrDie(const std::string& text, const BatchDefaults& defaults = {}) {
  absl::StatusOr<BatchRequest> request = ParseBatchRequest(text, 7, defaults);
  EXPECT_TRUE(request.ok()) << text << ": " << request.status();
  return request.ok() ? *request : BatchRequest{};
}

std::string Refusal(const std::string& text) {
  const absl::Status status = ParseBatchRequest(text, 7, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(MessageOf(status));
}

TEST(BatchRequest, LineSaysWhatDiffersFromTheDefaults) {
  BatchDefaults defaults = {.tokens_max = 9, .stops = {"\n"}};
  defaults.sampling.temperature = 0.25f;
  defaults.sampling.top_k = 5;
  const BatchRequest plain = ParseOrDie(R"({"prompt": "Once"})", defaults);
  EXPECT_EQ(plain.prompt, "Once");
  EXPECT_EQ(plain.id_json, "7");
  EXPECT_EQ(plain.tokens_max, 9);
  EXPECT_THAT(plain.stops, ElementsAre("\n"));
  EXPECT_EQ(plain.sampling.temperature, 0.25f);
  EXPECT_EQ(plain.sampling.top_k, 5);

  const BatchRequest own = ParseOrDie(
      R"({"prompt": "Once", "id": "a\"b", "tokens_max": 3, "stop": ["x", "y"], "temperature": 1,
          "top_k": 2, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.5,
          "frequency_penalty": 0.2, "presence_penalty": 0.3, "penalty_window": 11,
          "seed": 18446744073709551615})",
      defaults);
  EXPECT_EQ(own.id_json, R"("a\"b")");
  EXPECT_EQ(own.tokens_max, 3);
  EXPECT_THAT(own.stops, ElementsAre("x", "y"));
  const SamplingOptions& sampling = own.sampling;
  EXPECT_EQ(sampling.temperature, 1);
  EXPECT_EQ(sampling.top_k, 2);
  EXPECT_EQ(sampling.top_p, 0.5f);
  EXPECT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(sampling.frequency_penalty, 0.2f);
  EXPECT_EQ(sampling.presence_penalty, 0.3f);
  EXPECT_EQ(sampling.penalty_window, 11);
  EXPECT_EQ(sampling.seed, 18446744073709551615u);
}

TEST(BatchRequest, FieldsGoByTheNamesOfTheFlagsToo) {
  const BatchRequest request = ParseOrDie(
      R"({"prompt": "", "id": -3, "tokens": -1, "temp": 0, "top-k": 2, "top-p": 1, "min-p": 0,
          "repeat-penalty": 2, "frequency-penalty": 1, "presence-penalty": 1, "repeat-last-n": -1,
          "stop": "end"})");
  EXPECT_EQ(request.id_json, "-3");
  EXPECT_EQ(request.tokens_max, -1);
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.top_k, 2);
  EXPECT_EQ(request.sampling.repetition_penalty, 2);
  EXPECT_EQ(request.sampling.penalty_window, -1);
  EXPECT_THAT(request.stops, ElementsAre("end"));
}

TEST(BatchRequest, LineWithoutASeedHasOneOfRunAndNumber) {
  std::set<uint64_t> seeds;
  for (const uint64_t run : {0, 1, 2}) {
    for (int64_t line = 1; line <= 1000; ++line) seeds.insert(SeedOfLine(run, line));
  }
  EXPECT_EQ(seeds.size(), 3000u);
  EXPECT_LT(*seeds.rbegin(), uint64_t{1} << 53);
  BatchDefaults defaults;
  defaults.sampling.seed = 2;
  EXPECT_EQ(ParseOrDie(R"({"prompt": "x"})", defaults).sampling.seed, SeedOfLine(2, 7));
  EXPECT_EQ(ParseOrDie(R"({"prompt": "x", "seed": 2})", defaults).sampling.seed, 2u);
}

TEST(BatchRequest, UnknownFieldNamesTheNearest) {
  EXPECT_THAT(Refusal(R"({"prompt": "x", "temprature": 1})"), HasSubstr("try: temperature"));
  EXPECT_THAT(Refusal(R"({"promt": "x"})"), HasSubstr("unknown field 'promt'\n  try: prompt"));
  EXPECT_THAT(Refusal(R"({"prompt": "x", "max_tokens": 1})"), HasSubstr("'max_tokens'"));
  EXPECT_THAT(Refusal(R"({"messages": []})"), HasSubstr("chat templates are not applied"));
}

TEST(BatchRequest, ValueThatCannotBeIsRefusedByField) {
  const struct {
    const char* field;
    const char* value;
  } kCases[] = {{"id", "1.5"},
                {"id", "null"},
                {"tokens_max", "0"},
                {"tokens_max", "\"9\""},
                {"tokens_max", "2.5"},
                {"tokens_max", "1e3"},
                {"stop", "\"\""},
                {"stop", "[1]"},
                {"temperature", "\"hot\""},
                {"temperature", "-1"},
                {"temperature", "1e300"},
                {"top_k", "3000000000"},
                {"top_k", "-1"},
                {"top_k", "1.5"},
                {"top_p", "2"},
                {"top_p", "0"},
                {"min_p", "true"},
                {"repetition_penalty", "0"},
                {"penalty_window", "-2"},
                {"frequency_penalty", "1000"},
                {"presence_penalty", "[]"},
                {"seed", "-1"},
                {"seed", "0.5"},
                {"tokens_max", "18446744073709551615"}};
  for (const auto& c : kCases) {
    const std::string text = std::string(R"({"prompt": "x", ")") + c.field + "\": " + c.value + "}";
    const std::string message = Refusal(text);
    EXPECT_THAT(message, HasSubstr(c.field)) << text;
    EXPECT_THAT(message, HasSubstr("which is not allowed: it must be ")) << text;
  }
  EXPECT_THAT(Refusal(R"({"prompt": 5})"), HasSubstr("prompt is 5"));
  EXPECT_THAT(Refusal(R"({"prompt": "x", "temp": 1, "temperature": 1})"),
              HasSubstr("temperature and temp are two names of one field"));
  EXPECT_THAT(Refusal(R"({"prompt": "x", "seed": 1, "seed": 1})"),
              HasSubstr("seed is given twice"));
}

TEST(BatchRequest, WhatIsNoObjectIsRefused) {
  EXPECT_THAT(Refusal(R"({"prompt": "x")"), HasSubstr("not JSON: an error at byte 15"));
  EXPECT_THAT(Refusal("{\"prompt\": \"\xff\"}"), HasSubstr("not JSON"));
  EXPECT_THAT(Refusal(R"({"prompt": "x", "temp": 1e999})"), HasSubstr("out of range"));
  EXPECT_THAT(Refusal(R"(["x"])"), HasSubstr("no JSON object\n  try: one object a line"));
  EXPECT_THAT(Refusal("{}"), HasSubstr("prompt is missing"));
  EXPECT_THAT(Refusal(std::string(100'000, '[')), HasSubstr("not JSON"));
}

}  // namespace
}  // namespace stoker
