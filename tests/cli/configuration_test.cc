// Where values come from, which wins, and who is blamed for one that cannot be.
#include "cli/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/effective_values.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const CommandRow& Row(std::string_view name) { return **FindCommand(name); }

Environment EnvironmentOf(std::vector<const char*> entries) {
  entries.push_back(nullptr);
  return Environment::Read(entries.data());
}

class ConfigurationTest : public ::testing::Test {
 protected:
  std::string File(const std::string& text, const std::string& name = "stoker.toml") {
    std::ofstream(folder_.File(name)) << text;
    return folder_.File(name);
  }

  absl::StatusOr<Configuration> Run(const std::vector<std::string>& arguments,
                                    const std::vector<const char*>& variables = {},
                                    std::string_view command = "run") {
    ASSIGN_OR_RETURN(CommandLine line, ParseCommandLine(Row(command), arguments));
    return Configure(Row(command), std::move(line), EnvironmentOf(variables));
  }

  EffectiveValue Value(const absl::StatusOr<Configuration>& configuration, std::string_view key) {
    if (!configuration.ok()) {
      ADD_FAILURE() << configuration.status();
      return {};
    }
    for (EffectiveValue& value : EffectiveValues(*configuration)) {
      if (value.key == key) return std::move(value);
    }
    ADD_FAILURE() << "no option " << key;
    return {};
  }

  std::string ErrorOf(const absl::StatusOr<Configuration>& configuration) {
    EXPECT_EQ(configuration.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(MessageOf(configuration.status()));
  }

  // The value is the option's, or is refused as not going with the others, by where it came from.
  void ExpectReached(const absl::StatusOr<Configuration>& configuration,
                     const EffectiveValue& given, Origin::Kind kind, const std::string& place) {
    if (!configuration.ok()) {
      EXPECT_THAT(ErrorOf(configuration), AllOf(StartsWith(place), Not(HasSubstr("unknown"))));
      return;
    }
    const EffectiveValue reached = Value(configuration, given.key);
    EXPECT_EQ(reached.origin.kind, kind);
    EXPECT_EQ(reached.texts, given.texts);
  }

  TemporaryDirectory folder_;
};

TEST_F(ConfigurationTest, FlagBeatsVariableBeatsFileBeatsDefault) {
  const std::string path = File("threads = 3\n");
  for (int given = 0; given < 8; ++given) {
    const bool has_flag = (given & 4) != 0, has_variable = (given & 2) != 0,
               has_file = (given & 1) != 0;
    std::vector<std::string> arguments;
    std::vector<const char*> variables;
    if (has_flag) arguments = {"--threads", "1"};
    if (has_variable) variables.push_back("STOKER_THREADS=2");
    if (has_file) arguments.insert(arguments.end(), {"--config", path});
    const EffectiveValue value = Value(Run(arguments, variables), "threads");
    const char* expected = has_flag ? "1" : has_variable ? "2" : has_file ? "3" : "0";
    const std::string origin = has_flag       ? "flag --threads"
                               : has_variable ? "environment STOKER_THREADS"
                               : has_file     ? path + ":1"
                                              : "default";
    EXPECT_THAT(value.texts, ElementsAre(expected)) << given;
    EXPECT_EQ(DescribeOrigin(value.origin), origin) << given;
  }
}

TEST_F(ConfigurationTest, FileIsNamedByFlagOrElseByVariable) {
  const std::string one = File("threads = 1\n", "one.toml");
  const std::string variable = "STOKER_CONFIG=" + File("threads = 2\n", "two.toml");
  EXPECT_THAT(Value(Run({}, {variable.c_str()}), "threads").texts, ElementsAre("2"));
  EXPECT_THAT(Value(Run({"--config", one}, {variable.c_str()}), "threads").texts, ElementsAre("1"));
  EXPECT_THAT(ErrorOf(Run({}, {"STOKER_CONFIG=nowhere.toml"})),
              AllOf(StartsWith("STOKER_CONFIG: "), HasSubstr("nowhere.toml")));
}

// A value that the option takes, when it has no default.
std::string SampleOf(const EffectiveValue& value) {
  if (value.kind == EffectiveValue::Kind::kBoolean) return "true";
  if (value.is_set) return value.texts.front();
  if (value.key == "vram-policy") return "lru";
  if (value.key == "place") return "auto";
  for (const char* key : {"modelled-bandwidth", "modelled-link", "modelled-link-out"}) {
    if (value.key == key) return "10GB/s";
  }
  return value.kind == EffectiveValue::Kind::kText ? "1G" : "1";
}

TEST_F(ConfigurationTest, EveryFlagHasAKeyAndAVariable) {
  for (const CommandRow& row : Commands()) {
    if (!DeclaredCommand::Make(row).command->is_configurable()) continue;
    const std::vector<std::string> base = {"--device", "modelled"};
    const bool has_device = Run(base, {}, row.name).ok();
    const absl::StatusOr<Configuration> plain =
        Run(has_device ? base : std::vector<std::string>(), {}, row.name);
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (const EffectiveValue& value : EffectiveValues(*plain)) {
      if (value.key == "gpu" || value.key == "device") continue;  // do not go with the base
      SCOPED_TRACE(std::string(row.name) + " " + value.key);
      EffectiveValue given = value;
      given.texts = {SampleOf(value)};
      given.is_set = true;
      const std::string path = File(FormatToml(row.name, {given}, false));
      std::vector<std::string> arguments = {"--config", path};
      if (has_device) arguments.insert(arguments.end(), base.begin(), base.end());
      ExpectReached(Run(arguments, {}, row.name), given, Origin::Kind::kFile, path + ":");
      const std::string variable = VariableOf(value.key);
      const std::string entry = variable + "=" + given.texts.front();
      ExpectReached(Run(has_device ? base : std::vector<std::string>(), {entry.c_str()}, row.name),
                    given, Origin::Kind::kEnvironment, variable + ":");
    }
  }
}

TEST(VariableOf, DashesAndDotsAreUnderscoresAndNoTwoKeysShareOne) {
  EXPECT_EQ(VariableOf("vram-policy"), "STOKER_VRAM_POLICY");
  EXPECT_EQ(VariableOf("lfu.uses_per_key"), "STOKER_LFU_USES_PER_KEY");
  std::set<std::string> variables = {std::string(kConfigVariable)};
  for (const std::string& key : KeysOfAllCommands()) {
    EXPECT_TRUE(variables.insert(VariableOf(key)).second) << key;
  }
}

TEST(KeysOfAllCommands, NoTableOfAFileIsAKeyToo) {  // TOML has no place for both
  const std::vector<std::string> keys = KeysOfAllCommands();
  for (const std::string& key : keys) {
    EXPECT_EQ(std::count(keys.begin(), keys.end(), key.substr(0, key.find('.'))),
              key.find('.') == std::string::npos ? 1 : 0)
        << key;
  }
}

TEST_F(ConfigurationTest, BadValueOfAVariableNamesIt) {
  EXPECT_THAT(ErrorOf(Run({}, {"STOKER_THREADS=-1"})),
              AllOf(StartsWith("STOKER_THREADS: "), HasSubstr("from 0 to 1024")));
  EXPECT_THAT(ErrorOf(Run({}, {"STOKER_THREADS=two"})),
              AllOf(StartsWith("STOKER_THREADS: "), HasSubstr("a whole number")));
  EXPECT_THAT(ErrorOf(Run({}, {"STOKER_QUIET=maybe"})),
              AllOf(StartsWith("STOKER_QUIET: "), HasSubstr("true or false")));
  EXPECT_THAT(ErrorOf(Run({}, {"STOKER_POLICY=fifo"})),
              AllOf(StartsWith("STOKER_POLICY: "), HasSubstr("lru")));
}

TEST_F(ConfigurationTest, UnknownVariableIsANoteWithTheNearest) {
  const auto configuration =
      Run({}, {"STOKER_RMA=8G", "STOKER_SERVICE_PORT_8080_TCP=tcp", "RAM=1"});
  ASSERT_TRUE(configuration.ok());
  ASSERT_EQ(configuration->notes.size(), 1u);
  EXPECT_THAT(configuration->notes[0],
              AllOf(HasSubstr("STOKER_RMA (try STOKER_RAM)"),
                    ::testing::EndsWith(", STOKER_SERVICE_PORT_8080_TCP")));
}

TEST_F(ConfigurationTest, VariablesOfOtherCommandsAndEmptyOnesAreSilent) {
  const auto configuration = Run({}, {"STOKER_REPETITIONS=3", "STOKER_THREADS="});
  ASSERT_TRUE(configuration.ok());
  EXPECT_THAT(configuration->notes, IsEmpty());
  EXPECT_EQ(Value(configuration, "threads").origin.kind, Origin::Kind::kDefault);
}

TEST_F(ConfigurationTest, ValuesAreCheckedTogetherWhereverTheyComeFrom) {
  const std::string path = File("# first\ndevice = \"modelled\"\n");
  EXPECT_TRUE(Run({"--config", path}, {"STOKER_MODELLED_MEMORY=1G"}).ok());
  // The one that the complaint names first is to blame, not the one that came last.
  EXPECT_THAT(ErrorOf(Run({"--config", File("vram = \"1G\"\n")}, {"STOKER_DEVICE=cpu"})),
              HasSubstr("stoker.toml:1: 'vram'"));
  EXPECT_THAT(ErrorOf(Run({"--device", "cpu"}, {"STOKER_VRAM=1G"})), StartsWith("STOKER_VRAM: "));
  EXPECT_THAT(ErrorOf(Run({"--vram", "1G"}, {"STOKER_DEVICE=cpu"})), StartsWith("vram is given"));
}

TEST_F(ConfigurationTest, TablesAreDottedKeys) {
  EXPECT_THAT(ErrorOf(Run({"--config", File("[lfu]\nno_such_thing = 1\n")})),
              AllOf(HasSubstr("stoker.toml:2"), HasSubstr("'lfu.no_such_thing'")));
}

TEST_F(ConfigurationTest, ListsAreForFlagsThatRepeat) {
  EXPECT_THAT(Value(Run({"--config", File("stop = [\"a\", \"[b]\"]\n")}), "stop").texts,
              ElementsAre("a", "[b]"));
  EXPECT_THAT(ErrorOf(Run({"--config", File("threads = [1]\n")})), HasSubstr("stoker.toml:1"));
}

TEST_F(ConfigurationTest, CheckListsEveryProblemInOrder) {
  const std::string path = File(
      "threads = -1\n"
      "thread = 2\n"
      "ram = true\n"
      "device = \"cpu\"\n"
      "vram = \"1G\"\n"
      "repetitions = 0\n"
      "prompt-tokens = 16\n"
      "[sampling]\n"
      "temp = 1\n");
  const auto problems = CheckConfigFile(path, nullptr);
  ASSERT_TRUE(problems.ok()) << problems.status();
  std::vector<int> lines;
  for (const ConfigProblem& problem : *problems) lines.push_back(problem.origin.line);
  EXPECT_THAT(lines, ElementsAre(1, 2, 3, 5, 6, 9));
  EXPECT_THAT(Format((*problems)[1]), AllOf(StartsWith(path + ":2: "), HasSubstr("threads")));
}

TEST_F(ConfigurationTest, CheckJudgesForOneCommandIfTold) {
  const std::string path = File("tokens = -1\n");  // run may, bench may not
  EXPECT_THAT(*CheckConfigFile(path, nullptr), IsEmpty());
  EXPECT_EQ(CheckConfigFile(path, &Row("bench"))->size(), 1u);
}

TEST_F(ConfigurationTest, ShownValuesReadBackToThemselves) {
  const std::vector<std::string> arguments = {
      "--ram",  "8G",      "--seed",  "18446744073709551615",
      "--temp", "0.5",     "-p",      "say \"hi\"\n\t\x7f {x} [y] \\",
      "-p",     "again",   "--quiet", "--stop",
      "",       "--min-p", ".25",     "--threads",
      "0x4"};
  for (const bool with_origin : {false, true}) {
    const auto first = Run(arguments);
    ASSERT_TRUE(first.ok()) << first.status();
    const std::vector<EffectiveValue> values = EffectiveValues(*first);
    const std::string text = FormatToml("run", values, with_origin);
    const auto second = Run({"--config", File(text)});
    ASSERT_TRUE(second.ok()) << second.status() << text;
    EXPECT_EQ(FormatToml("run", EffectiveValues(*second), false), FormatToml("run", values, false));
    EXPECT_THAT(Value(second, "prompt").texts,
                ElementsAre("say \"hi\"\n\t\x7f {x} [y] \\", "again"));
    EXPECT_THAT(*CheckConfigFile(File(text), nullptr), IsEmpty());
  }
}

TEST_F(ConfigurationTest, JsonTellsValueAndOrigin) {
  const std::string json = FormatJson("run", EffectiveValues(*Run({"--temp", "0.5"})));
  EXPECT_THAT(json, HasSubstr(R"("temp":{"value":0.5,"origin":"flag","place":"--temp"})"));
  EXPECT_THAT(json, HasSubstr(R"("vram":{"value":null,"origin":"default"})"));
  EXPECT_THAT(json, Not(HasSubstr("\"help\"")));
}

}  // namespace
}  // namespace stoker
